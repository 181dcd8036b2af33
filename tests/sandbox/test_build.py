"""Where a Codex CLI is found, and what of it goes into the image."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from sandbox.build import BuildError, build, build_context, find_codex

TARGET = "x86_64-unknown-linux-musl"


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A node_modules folder as npm leaves it."""
    folder = tmp_path / "node_modules"
    vendor = folder / "@openai" / "codex-linux-x64" / "vendor" / TARGET
    for name, text in {
        "bin/codex": "binary", "bin/codex-code-mode-host": "large", "codex-path/rg": "rg", "codex-resources/bwrap": "b",
        "codex-resources/voice/model": "large",
        "codex-package.json": json.dumps({"layoutVersion": 1, "version": "0.169.0", "target": TARGET}),
    }.items():  # fmt: skip
        (vendor / name).parent.mkdir(parents=True, exist_ok=True)
        (vendor / name).write_text(text)
    script = folder / "@openai" / "codex" / "bin" / "codex.js"
    script.parent.mkdir(parents=True)
    script.write_text("js")
    (folder / ".bin").mkdir()
    (folder / ".bin" / "codex").symlink_to(script)
    return folder


@pytest.fixture
def runner(tmp_path: Path) -> Path:
    folder = tmp_path / "runner"
    (folder / "__pycache__").mkdir(parents=True)
    for name in ("__main__.py", "forward.py", "notes.txt", "__pycache__/runner.pyc"):
        (folder / name).write_text(name)
    return folder


@pytest.mark.parametrize(
    "told",
    [
        ".", ".bin/codex", "..", "@openai/codex", "@openai/codex/bin/codex.js", "@openai/codex-linux-x64",
        f"@openai/codex-linux-x64/vendor/{TARGET}", f"@openai/codex-linux-x64/vendor/{TARGET}/bin/codex",
    ],
)  # fmt: skip
def test_every_way_of_naming_it_leads_to_the_same(modules: Path, told: str) -> None:
    found = find_codex(modules / told, "x86_64")
    assert found.folder == (modules / "@openai" / "codex-linux-x64" / "vendor" / TARGET).resolve()
    assert found.version == "0.169.0"
    assert len(found.sha256) == 64


def test_a_package_nested_in_a_package_is_found(modules: Path) -> None:
    inner = modules / "@openai" / "codex" / "node_modules" / "@openai"
    inner.mkdir(parents=True)
    (modules / "@openai" / "codex-linux-x64").rename(inner / "codex-linux-x64")
    assert find_codex(modules / ".bin" / "codex", "x86_64").folder.is_relative_to(inner.resolve())


def test_what_cannot_be_shipped_is_said(modules: Path) -> None:
    with pytest.raises(BuildError, match="npm install"):
        find_codex(Path("/nowhere/codex"), "x86_64")
    with pytest.raises(BuildError, match="does not lead to a Codex CLI for aarch64"):
        find_codex(modules, "aarch64")
    with pytest.raises(BuildError, match="on riscv64"):
        find_codex(modules, "riscv64")
    vendor = find_codex(modules, "x86_64").folder
    (vendor / "codex-path" / "rg").unlink()
    with pytest.raises(BuildError, match="rg is missing"):
        find_codex(modules, "x86_64")
    (vendor / "codex-package.json").write_text(json.dumps({"layoutVersion": 2, "version": "1", "target": TARGET}))
    with pytest.raises(BuildError, match="layout 2"):
        find_codex(modules, "x86_64")
    (vendor / "codex-package.json").write_text("{")
    with pytest.raises(BuildError, match="cannot be read"):
        find_codex(modules, "x86_64")


def test_the_context_holds_what_is_needed_and_is_the_same_each_time(modules: Path, runner: Path) -> None:
    codex = find_codex(modules, "x86_64")
    with build_context(codex, runner) as context:
        first = context.read()
        context.seek(0)
        with tarfile.open(fileobj=context) as tar:
            modes = {member.name: (member.mode, member.uid, member.mtime) for member in tar}
    assert modes == {
        "Dockerfile": (0o644, 0, 0), "codex/bin/codex": (0o755, 0, 0), "codex/codex-path/rg": (0o755, 0, 0),
        "codex/codex-resources/bwrap": (0o755, 0, 0), "codex/codex-package.json": (0o644, 0, 0),
        "agent/runner/forward.py": (0o644, 0, 0), "agent/runner/__main__.py": (0o644, 0, 0),
    }  # fmt: skip
    with build_context(codex, runner) as context:
        assert context.read() == first


def test_without_a_runner_there_is_no_image(modules: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(BuildError, match=r"__main__\.py is missing"),
        build_context(find_codex(modules, "x86_64"), tmp_path),
    ):
        pass


async def test_an_engine_that_does_not_answer_is_said(modules: Path, runner: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="could not build"):
        await build(f"unix://{tmp_path}/no.sock", find_codex(modules, "x86_64"), "x:1", say=print, runner=runner)
