"""How does a small secret file come to be, get read and get replaced, so that nobody else reads it and no crash
leaves half of it?

Rules that hold:

* mode 0600 from the first moment; a file that others may read, a link and whatever is no regular file are refused
  with one line and the fix;
* a new file is made exclusively; a changed one is written aside, synced and renamed: it is the old one or the new
  one, whole, also after a kill at any moment;
* who changes a file holds the lock of its folder meanwhile, so that two changes follow one another; readers need no
  lock. The lock ends with the process.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from store.errors import StoreUnusable, WrongKey


def read_private(path: Path, source: str, largest_bytes: int) -> bytes:
    """The content, at most ``largest_bytes``. Raises WrongKey, which calls the file ``source``."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise WrongKey(f"{source} is missing; restore it from its backup") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise WrongKey(f"{source} is a symbolic link; name the file itself") from None
        raise WrongKey(f"{source} cannot be read ({error.strerror})") from None
    try:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode):
            raise WrongKey(f"{source} is not a regular file")
        if info.st_mode & 0o077:
            mode = stat.S_IMODE(info.st_mode)
            raise WrongKey(f"{source} may be read by others (mode {mode:04o}); run: chmod 600 {path}")
        return os.read(handle, largest_bytes)
    finally:
        os.close(handle)


def create_private(path: Path, source: str, content: Callable[[], bytes]) -> bool:
    """Makes the file with ``content()``, durably; False when there is one already. Raises StoreUnusable.

    The content is made first: when that fails, nothing was made.
    """
    make_private_folders(path.parent)
    if os.path.lexists(path):
        return False
    made = content()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        handle = os.open(path, flags, 0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise StoreUnusable(f"{source} cannot be made ({error.strerror}); name a writable place") from None
    try:
        _fill(handle, made)
        sync_folder(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StoreUnusable(f"{source} cannot be written ({error.strerror}); free some space") from None
    return True


def replace_private(path: Path, source: str, content: bytes) -> None:
    """Puts ``content`` in the place of the file, or makes it. Raises StoreUnusable with the file as it was."""
    aside = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}")
    try:
        try:
            _fill(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), content)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise StoreUnusable(f"{source} cannot be written ({error.strerror}); free some space") from None


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """One change at a time among all processes that ask. Raises OSError when there is no such folder."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def one_change(path: Path, source: str) -> Iterator[None]:
    """The same for a change of ``path``. Raises StoreUnusable, which calls the file ``source``."""
    try:
        with locked_folder(path.parent):
            yield
    except OSError as error:
        raise StoreUnusable(f"{source} cannot be changed ({error.strerror or error})") from None


def mark_of(path: Path) -> object:
    """Another value whenever the file was replaced or changed."""
    try:
        info = os.stat(path, follow_symlinks=False)
    except OSError:
        return "absent"
    return (info.st_ino, info.st_mtime_ns, info.st_size)


def make_private_folders(folder: Path) -> None:
    """Makes what is missing of ``folder`` with mode 0700. Raises StoreUnusable."""
    missing = [part for part in (folder, *folder.parents) if not part.exists()]
    for part in reversed(missing):
        try:
            part.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreUnusable(f"folder {part} cannot be made ({error.strerror}); name a writable place") from None


def sync_folder(folder: Path) -> None:
    """Makes a new name in ``folder`` durable. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fill(handle: int, content: bytes) -> None:
    with os.fdopen(handle, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
