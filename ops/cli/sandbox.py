"""``sandbox``: build the agent image, and see that the isolation of this host holds.

Both open the engine's socket and are for the operator of that host; neither needs the store or a key.
"""

from __future__ import annotations

import asyncio
import platform
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import click

from ops.cli.options import common
from ops.cli.output import data, fail, say, table
from ops.cli.session import settings_of
from ops.clock import SystemClock

_NOT_LINUX = "Containers need Linux; run this on the host of the engine"


@click.group()
def sandbox() -> None:
    """Containers for tasks: their image and their isolation."""


@sandbox.command("build")
@common
@click.option("--base", help="Image to build on; Debian or a relative of it, with Python 3.11 or later or none.")
@click.option(
    "--codex", type=click.Path(path_type=Path, exists=True), help="The Codex CLI or its npm package (default: of PATH)."
)
@click.option("--tag", help="Name of the image (default: [sandbox] image).")
def build(config: Path | None, base: str | None, codex: Path | None, tag: str | None, *, as_json: bool) -> None:
    """Build the agent image: git, Python, ripgrep, the Codex CLI and the runner."""
    from sandbox import build as image

    settings = settings_of(config).sandbox
    name = tag or settings.image
    try:
        cli = image.find_codex(codex)
        say(f"Codex CLI {cli.version} from {cli.folder}")
        made = asyncio.run(image.build(settings.engine_url, cli, name, base=base or image.DEFAULT_BASE, say=say))
    except image.BuildError as error:
        fail(str(error))
    if as_json:
        data({"image": name, "id": made, "codex": cli.version, "codex_sha256": cli.sha256})
    else:
        say(f"{name} is {made}; see that it is isolated: codex-relay sandbox check")


@sandbox.command("check")
@common
@click.option("--image", "tag", help="Image to try it with (default: [sandbox] image).")
def check(config: Path | None, tag: str | None, *, as_json: bool) -> None:
    """Try to get out of a container of every phase, and run into every limit; ends with 1 when anything is open."""
    from sandbox.check import check as escape
    from sandbox.docker import DockerEngine
    from sandbox.engine import EngineError

    settings = settings_of(config).sandbox
    if platform.system() != "Linux":
        fail(_NOT_LINUX)

    async def tried() -> list[dict[str, object]]:
        engine = await DockerEngine.open(settings.engine_url, settings.runtime)
        try:
            with tempfile.TemporaryDirectory(prefix="codex-relay-check-") as folder:
                found = await escape(
                    engine, tag or settings.image, Path(folder), SystemClock().now_s(), runtime=settings.runtime
                )
        finally:
            await engine.close()
        return [asdict(one) for one in found]

    try:
        found = asyncio.run(tried())
    except EngineError as error:
        fail(str(error))
    if as_json:
        data(found)
    else:
        rows = [(str(one["phase"]), "closed" if one["passed"] else "OPEN", one["name"], one["detail"]) for one in found]
        table(("phase", "", "attempt", "finding"), rows, widest=120)
    if not all(one["passed"] for one in found):
        say(
            "Something is open: do not run tasks on this host. docs/sandbox-isolation.md names what each attempt needs."
        )
        sys.exit(1)
