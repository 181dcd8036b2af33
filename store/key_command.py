"""Keys that a program of the operator's hands out: a password manager, a hardware token, a secret service.

The program is run as a list of words, without a shell. Its standard output is the content of a key file: base64 of
32 bytes, several separated by white space, the first seals.

Rules that hold:

* it gets an environment of a few harmless names and whatever names the operator lists, never our settings;
* it ends within ``timeout_s`` or is killed with everything it started; more than a key file holds is refused;
* its output and its standard error reach no message: an error names the program and the exit code.

Such keys change when the program answers otherwise; a gateway asks it once a minute at most, and at once when it meets
a key that it does not know. It is not asked at every request: what it gave is kept in memory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from store.errors import StoreUnusable, WrongKey
from store.keyfile import decode_keys
from store.vault import KeyRing

_KEPT: Final = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR")
_LARGEST_OUTPUT: Final = 4096


class CommandKeys:
    """Implements store.keyfile.KeyProvider by running ``command``."""

    def __init__(self, command: Sequence[str], timeout_s: float, environment: Sequence[str] = ()) -> None:
        """``environment`` names further variables that the program gets. Raises StoreUnusable without a command."""
        if not command:
            raise StoreUnusable("setting vault.command is empty; name the program that prints the key")
        self._command = tuple(command)
        self._timeout_s = timeout_s
        self._names = (*_KEPT, *environment)

    @property
    def source(self) -> str:
        return f"command {self._command[0]}"

    def present(self) -> bool:
        """Always: a program cannot be made for the operator."""
        return True

    def load(self) -> KeyRing:
        return KeyRing(decode_keys(self._run(), f"the output of {self.source}"))

    def mark(self) -> object | None:
        return None

    def create(self) -> Path | None:
        raise StoreUnusable(f"{self.source} cannot make a key; let it print base64 of 32 random bytes")

    def _run(self) -> bytes:
        environment = {name: os.environ[name] for name in self._names if name in os.environ}
        try:
            process = subprocess.Popen(  # noqa: S603 - the operator's own program, as words
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise WrongKey(f"{self.source} cannot be run ({error.strerror}); check vault.command") from None
        with process:
            try:
                output, _ = process.communicate(timeout=self._timeout_s)
            except subprocess.TimeoutExpired:
                raise WrongKey(f"{self.source} did not answer within {self._timeout_s:g} s") from None
            finally:
                _end(process)
        if process.returncode != 0:
            raise WrongKey(f"{self.source} ended with exit code {process.returncode}; run it by hand to see why")
        if len(output) > _LARGEST_OUTPUT:
            raise WrongKey(f"{self.source} printed more than {_LARGEST_OUTPUT} bytes; let it print the keys alone")
        return output


def _end(process: subprocess.Popen[bytes]) -> None:
    """Also what it left behind: the session is its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
