"""What scripts say, as log: whole lines, bounded pieces, masked across reads, nothing lost but what is too much."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from sandbox.runner.events import Events, Masks
from sandbox.runner.processes import Stop
from sandbox.runner.scripts import PIECE_CHARACTERS, Output, Scripts

PATH = {"PATH": "/usr/bin:/bin"}


def texts(out: io.BytesIO) -> list[str]:
    lines = (json.loads(line) for line in out.getvalue().splitlines())
    return [line["data"]["text"] for line in lines if line["kind"].endswith(".output")]


@pytest.mark.parametrize("piece_bytes", [1, 5, 1000])
def test_a_secret_that_comes_in_two_reads_is_masked(piece_bytes: int) -> None:
    out, log = io.BytesIO(), io.StringIO()
    masks = Masks(["s3cret-value"])
    output = Output(Events(masks, 9999, out=out), "setup", "one", masks, log, 9999)
    data = b"a s3cret-value b\nlast s3cret-value"
    for at in range(0, len(data), piece_bytes):
        output(data[at : at + piece_bytes])
    output.close()
    assert "".join(texts(out)) == log.getvalue() == output.tail == "a *** b\nlast ***"


@pytest.mark.parametrize("before", range(PIECE_CHARACTERS - 13, PIECE_CHARACTERS + 14, 4))
def test_a_secret_across_the_pieces_of_a_line_without_end_is_masked(before: int) -> None:
    out = io.BytesIO()
    masks = Masks(["s3cret-value"])
    output = Output(Events(masks, 1 << 20, out=out), "setup", "one", masks, None, 0)
    data = b"x" * before + b"s3cret-value" + b"y" * 40_000
    for at in range(0, len(data), before + 5):
        output(data[at : at + before + 5])
    output.close()
    assert "".join(texts(out)) == "x" * before + "***" + "y" * 40_000


def test_a_line_without_end_comes_in_pieces() -> None:
    out = io.BytesIO()
    output = Output(Events(Masks(()), 40 << 20, out=out), "setup", "one", Masks(()), None, 0)
    for _ in range(20):
        output(b"\0" * 60_000)
    output.close()
    assert "".join(texts(out)) == "\0" * 1_200_000
    assert max(map(len, texts(out))) <= PIECE_CHARACTERS


@pytest.mark.slow
def test_a_log_that_is_full_says_so_once(tmp_path: Path) -> None:
    events = Events(Masks(()), 40 << 20, out=io.BytesIO())
    scripts = Scripts(events, Masks(()), Stop(20.0), "setup", tmp_path / "setup.log", 1000)
    for label in ("one", "two"):
        ran, tail = scripts.run(label, "seq 1 20000", PATH, tmp_path)
        assert (ran.code, tail.endswith("20000\n")) == (0, True)
    log = (tmp_path / "setup.log").read_text()
    assert log.count("the log is full") == 1
    assert len(log) < 40_000


@pytest.mark.slow
def test_the_script_is_neither_an_argument_nor_a_file_and_stops_at_the_first_error(tmp_path: Path) -> None:
    events = Events(Masks(()), 40 << 20, out=io.BytesIO())
    scripts = Scripts(events, Masks(()), Stop(20.0), "setup", tmp_path / "setup.log", 1 << 20)
    ran, tail = scripts.run("one", "tr '\\0' ' ' < /proc/$$/cmdline; echo; read x || echo no-input; false; echo no",
                            PATH, tmp_path)  # fmt: skip
    assert ran.code == 1
    assert tail.startswith("bash -e /dev/fd/")
    assert tail.endswith("no-input\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["setup.log"]
