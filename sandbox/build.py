"""What goes into the agent image, and how is it built without a registry and without a download?

The Codex CLI is taken from where npm has put it (its platform package holds one static binary and ripgrep; Node.js is
not needed), the runner from this package. Rules that hold:

* the version is what the package says of itself, is checked again by running the binary in the image, and stands with
  the binary's SHA-256 in the image's labels: an image tells what is in it;
* only named files are taken, as regular files of root that nobody may write, with one fixed time: the same input is
  the same context, so that the engine's cache holds;
* the tar is written to a file, for the binary alone is some 300 MB.

What a base lacks (git, python3, certificates) is installed by the base's own apt; see sandbox/image/Dockerfile.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import aiodocker
import aiohttp

from ops.version import VERSION

DEFAULT_BASE: Final = "debian:bookworm-slim"
LABEL_CODEX: Final = "codex-relay.codex-version"
LABEL_CODEX_HASH: Final = "codex-relay.codex-sha256"
LABEL_VERSION: Final = "codex-relay.version"

_HERE: Final = Path(__file__).resolve().parent
RUNNER: Final = _HERE / "runner"
_DOCKERFILE: Final = _HERE / "image" / "Dockerfile"
_ABOUT: Final = "codex-package.json"
_LAYOUT: Final = 1
_TAKEN: Final = (("bin/codex", True), ("codex-path/rg", True), ("codex-resources/bwrap", False), (_ABOUT, True))
"""Files of the vendor folder and whether they must be there; the voice and code-mode parts stay outside."""
_TARGETS: Final = {
    "x86_64": ("x86_64-unknown-linux-musl", "codex-linux-x64"),
    "aarch64": ("aarch64-unknown-linux-musl", "codex-linux-arm64"),
}


class BuildError(Exception):
    """The image cannot be built; str() is the cause and the next step."""


@dataclass(frozen=True, slots=True)
class Codex:
    """A Codex CLI to ship: its vendor folder, its version and the SHA-256 of its binary."""

    folder: Path
    version: str
    sha256: str


def find_codex(path: Path | None = None, machine: str | None = None) -> Codex:
    """The Codex CLI at ``path``: the command, its npm package, a node_modules folder, or the vendor folder itself;
    None: the ``codex`` of PATH. Raises BuildError when there is none for ``machine`` (this one when not given)."""
    told = path or _on_path()
    target, package = _target(machine or platform.machine())
    folder = next((one for one in _candidates(told, target, package) if (one / _ABOUT).is_file()), None)
    if folder is None:
        raise BuildError(
            f"{told} does not lead to a Codex CLI for {target}; install it with: npm install @openai/codex, and name "
            "its folder with --codex"
        )
    try:
        about = json.loads((folder / _ABOUT).read_bytes())
        version, layout, found = str(about["version"]), about["layoutVersion"], about["target"]
    except (ValueError, KeyError, TypeError) as error:
        raise BuildError(f"{folder / _ABOUT} cannot be read; install the Codex CLI again") from error
    if layout != _LAYOUT or found != target:
        raise BuildError(f"{folder} has layout {layout} for {found}; layout {_LAYOUT} for {target} is what we know")
    for name, needed in _TAKEN:
        if needed and not (folder / name).is_file():
            raise BuildError(f"{folder / name} is missing; install the Codex CLI again")
    with open(folder / "bin" / "codex", "rb") as binary:
        return Codex(folder, version, hashlib.file_digest(binary, "sha256").hexdigest())


def _on_path() -> Path:
    found = shutil.which("codex")
    if found is None:
        raise BuildError("There is no codex on PATH; install it with: npm install -g @openai/codex, or give --codex")
    return Path(found)


def _target(machine: str) -> tuple[str, str]:
    try:
        return _TARGETS[machine]
    except KeyError:
        raise BuildError(f"There is no Codex CLI for Linux on {machine}; build on x86_64 or aarch64") from None


def _candidates(told: Path, target: str, package: str) -> Iterator[Path]:
    """From the path itself upwards: npm's commands are links into a package, and packages are nested or beside."""
    start = told.resolve()
    for folder in (start, *start.parents[:6]):
        yield folder
        for below in (".", f"@openai/{package}", f"node_modules/@openai/{package}", package):
            yield folder / below / "vendor" / target


@contextmanager
def build_context(codex: Codex, runner: Path = RUNNER) -> Iterator[IO[bytes]]:
    """The build context as a tar at its beginning, for as long as the block lasts. ``runner`` is copied as the folder
    that ``python3 -I /opt/agent/runner`` starts. Raises BuildError when it cannot be started."""
    if not (runner / "__main__.py").is_file():
        raise BuildError(f"{runner / '__main__.py'} is missing; install codex-relay again")
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, "Dockerfile", _DOCKERFILE, 0o644)
            for name, _ in _TAKEN:
                if (codex.folder / name).is_file():
                    _add(tar, f"codex/{name}", codex.folder / name, 0o644 if name == _ABOUT else 0o755)
            for source in sorted(runner.glob("*.py")):
                _add(tar, f"agent/runner/{source.name}", source, 0o644)
        file.seek(0)
        yield file


def _add(tar: tarfile.TarFile, name: str, source: Path, mode: int) -> None:
    with open(source, "rb") as content:
        told = tarfile.TarInfo(name)
        told.size, told.mode, told.mtime = content.seek(0, io.SEEK_END), mode, 0
        content.seek(0)
        tar.addfile(told, content)


async def build(
    socket_url: str,
    codex: Codex,
    tag: str,
    *,
    base: str = DEFAULT_BASE,
    say: Callable[[str], None],
    runner: Path = RUNNER,
) -> str:
    """Builds the image ``tag`` at the engine and returns its id. ``say`` hears each line of the build. Raises
    BuildError with the engine's words. Cancel: layers that are done stay in the engine's cache, ``tag`` is as before.
    """
    labels = {LABEL_CODEX: codex.version, LABEL_CODEX_HASH: codex.sha256, LABEL_VERSION: VERSION}
    arguments = {"BASE_IMAGE": base, "CODEX_VERSION": codex.version}
    try:
        with build_context(codex, runner) as context:
            async with aiodocker.Docker(url=socket_url) as docker:
                async for step in docker.images.build(
                    fileobj=context, encoding="identity", tag=tag, buildargs=arguments, labels=labels, stream=True
                ):
                    said = str(step.get("stream") or step.get("status") or "").rstrip()
                    if said:
                        say(said)
                made = await docker.images.inspect(tag)
    except (aiodocker.DockerError, aiohttp.ClientError, OSError) as error:
        reason = error.message if isinstance(error, aiodocker.DockerError) else str(error)
        raise BuildError(
            f"The engine at {socket_url} could not build {tag}: {reason[:500]}. If {base} is not there and cannot be "
            "fetched, name one that is with --base"
        ) from error
    return str(made["Id"])
