"""Logging: one JSON object a line, redacted, and never a reason to wait."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from ops import log

KEY = "at-cr-k1234567-S3cr3tS3cr3tS3cr3t"


class Pipe:
    """A pipe with a reader that reads only when asked."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()

    def lines(self) -> list[dict[str, Any]]:
        """Everything up to the end; the write end is closed first."""
        return [json.loads(line) for line in self.text().splitlines()]

    def text(self) -> str:
        os.close(self.write_fd)
        with open(self.read_fd, "rb") as file:
            return file.read().decode()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    root = logging.getLogger()
    before = (root.level, root.handlers[:])
    yield Pipe()
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def test_a_line_is_one_json_object_with_time_level_and_event_first(pipe: Pipe) -> None:
    sink = log.configure("info", "json", fd=pipe.write_fd)
    log.get_logger(worker=1).info("request", status=200, model="m\n{}")
    assert sink.close()
    text = pipe.text()
    assert text.count("\n") == 1
    line = json.loads(text)
    assert list(line)[:3] == ["time", "level", "event"]
    assert line["time"].endswith("Z")
    assert line | {"time": ""} == {
        "time": "", "level": "info", "event": "request", "worker": 1, "status": 200, "model": r"m\n{}"
    }  # fmt: skip


def test_lines_below_the_level_are_left_out(pipe: Pipe) -> None:
    sink = log.configure("warning", "json", fd=pipe.write_fd)
    logger = log.get_logger()
    for write in (logger.debug, logger.info, logger.warning, logger.error):
        write("x")
    sink.close()
    assert [line["level"] for line in pipe.lines()] == ["warning", "error"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_are_masked_in_fields_events_and_exceptions(pipe: Pipe, form: log.Format) -> None:
    sink = log.configure("info", form, fd=pipe.write_fd)
    logger = log.get_logger()
    logger.info(f"event {KEY}", field=KEY, nested={"deep": [KEY]}, authorization="S3cr3t")
    try:
        int(KEY)
    except ValueError:
        logger.exception("failed", token="S3cr3t")
    sink.close()
    text = pipe.text()
    assert "S3cr3t" not in text
    assert text.count("\n") == 2


def test_an_exception_shows_types_messages_and_frames_but_no_source_and_no_locals(pipe: Pipe) -> None:
    sink = log.configure("info", "json", fd=pipe.write_fd)
    try:
        _fail_with("content of a prompt")
    except RuntimeError as error:
        log.get_logger().error("failed", exc_info=error)
    sink.close()
    (line,) = pipe.lines()
    assert [(one["type"], one["message"]) for one in line["exception"]] == [
        ("RuntimeError", "outer"),
        ("KeyError", "'k'"),
    ]
    assert any(frame.endswith("_fail_with") for frame in line["exception"][0]["at"])
    assert "content of a prompt" not in json.dumps(line)


def _fail_with(secret_local: str) -> None:
    try:
        _ = dict[str, int]()["k"]
    except KeyError as error:
        raise RuntimeError("outer") from error
    finally:
        del secret_local


def test_stdlib_logging_and_warnings_take_the_same_way(pipe: Pipe) -> None:
    sink = log.configure("info", "json", fd=pipe.write_fd)
    logging.getLogger("uvicorn.error").info("listening on %s", "x")
    logging.getLogger("httpx").info("GET https://host/secret")
    logging.getLogger("httpx").warning("slow")
    logging.getLogger("asyncio").error("%d", "does not fit")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"careful {KEY}", stacklevel=1)
    sink.close()
    lines = pipe.lines()
    assert [(line["logger"], line["level"]) for line in lines] == [
        ("uvicorn.error", "info"), ("httpx", "warning"), ("asyncio", "error"), ("py.warnings", "warning"),
    ]  # fmt: skip
    assert lines[2]["event"] == "%d"
    assert "S3cr3t" not in json.dumps(lines)


def test_a_summary_is_the_line_that_the_pipeline_would_have_written(pipe: Pipe) -> None:
    """Same members in the same order, context of logger and task included; what is foreign is redacted."""
    sink = log.configure("info", "json", fd=pipe.write_fd)
    logger = log.get_logger(worker=1)
    fields = {"status": 200, "model": f"m {KEY}", "path": None, "tenant": "demo", "took_ms": 1.5, "stream": True}
    summary = log.summary_of(logger)
    assert summary is not None
    with structlog.contextvars.bound_contextvars(seat=2):
        logger.info("request", **fields)
        summary("request", dict(fields), ("model", "path", "tenant"))
    assert sink.close()
    slow, quick = pipe.lines()
    assert sorted(quick) == sorted(slow)
    assert list(quick)[:3] == ["time", "level", "event"]
    assert KEY not in quick["model"]
    times = [line.pop("time") for line in (slow, quick)]
    assert slow == quick
    assert len(times[0]) == len(times[1])
    assert {time[-1] for time in times} == {"Z"}


@pytest.mark.parametrize(("level", "form"), [("warning", "json"), ("info", "console")])
def test_there_is_no_summary_where_the_pipeline_writes_otherwise(
    pipe: Pipe, level: log.Level, form: log.Format
) -> None:
    sink = log.configure(level, form, fd=pipe.write_fd)
    assert log.summary_of(log.get_logger()) is None
    assert sink.close()
    assert pipe.text() == ""


def test_context_of_the_task_is_on_every_line(pipe: Pipe) -> None:
    sink = log.configure("info", "json", fd=pipe.write_fd)
    with structlog.contextvars.bound_contextvars(request_id="req_1"):
        log.get_logger().info("inside")
    log.get_logger().info("outside")
    sink.close()
    assert [line.get("request_id") for line in pipe.lines()] == ["req_1", None]


@pytest.mark.fault("B63")
async def test_a_pipe_that_nobody_reads_delays_nobody_and_the_loss_is_counted() -> None:
    pipe = Pipe()
    fcntl.fcntl(pipe.write_fd, fcntl.F_SETPIPE_SZ, 4096)
    dropped: list[int] = []
    sink = log.Sink(pipe.write_fd, max_lines=100, on_drop=lambda: dropped.append(1))
    line = json.dumps({"event": "x" * 1000}).encode()
    began = time.perf_counter()
    for _ in range(5000):
        sink.write(line)
    assert time.perf_counter() - began < 1.0
    await asyncio.sleep(0)
    assert sink.dropped == len(dropped) > 4000
    assert not sink.close(timeout_s=0.05)

    arrived: list[bytes] = []
    reader = threading.Thread(target=_read_until, args=(pipe.read_fd, arrived, b"log.dropped"))
    reader.start()
    reader.join(10)
    assert not reader.is_alive()
    lines = [json.loads(one) for one in b"".join(arrived).splitlines()]
    assert lines[-1]["event"] == "log.dropped"
    assert lines[-1]["count"] == sink.dropped
    assert len(lines) - 1 + sink.dropped == 5000
    assert sink.close()
    os.close(pipe.read_fd)
    os.close(pipe.write_fd)


def _read_until(fd: int, into: list[bytes], wanted: bytes) -> None:
    while wanted not in b"".join(into[-2:]):
        into.append(os.read(fd, 65_536))


def test_a_descriptor_that_somebody_made_non_blocking_loses_no_line() -> None:
    pipe = Pipe()
    fcntl.fcntl(pipe.write_fd, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(pipe.write_fd, False)
    sink = log.Sink(pipe.write_fd)
    for number in range(100):
        sink.write(json.dumps({"n": number, "pad": "x" * 200}).encode())
    arrived: list[bytes] = []
    _read_until(pipe.read_fd, arrived, b'"n": 99')
    sink.close()
    rest = pipe.text()
    lines = (b"".join(arrived).decode() + rest).splitlines()
    assert [json.loads(line)["n"] for line in lines] == list(range(100))


def test_a_reader_that_is_gone_raises_nothing() -> None:
    pipe = Pipe()
    os.close(pipe.read_fd)
    sink = log.Sink(pipe.write_fd)
    sink.write(b"x")
    assert sink.close()
    assert sink.dropped <= 1
    os.close(pipe.write_fd)


def test_lines_written_just_before_the_process_ends_arrive() -> None:
    script = "from ops import log; log.configure(); log.get_logger().info('last', n=1)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=30)
    assert json.loads(done.stderr)["event"] == "last"


def test_an_info_line_of_fifteen_fields_costs_little(pipe: Pipe) -> None:
    """The best of several rounds by the thread's own CPU time; the figure aimed at is 12 microseconds."""
    drain = threading.Thread(target=_drain, args=(pipe.read_fd,), daemon=True)
    drain.start()
    sink = log.configure("info", "json", fd=pipe.write_fd)
    logger = log.get_logger()
    fields = {
        "request_id": "req_0123456789abcdef", "tenant": "ten_abcdef12", "key": "k_12345678", "model": "gpt-5.1-codex",
        "account": "acc_12345678", "status": 200, "outcome": "ok", "attempts": 1, "ttfb_ms": 12.3, "ms": 1234.5,
        "input_tokens": 100, "output_tokens": 20, "route": "responses", "dialect": "codex", "stream": True,
    }  # fmt: skip
    best = min(_cost_s(lambda: logger.info("request", **fields)) for _ in range(7))
    sink.close()
    os.close(pipe.write_fd)
    drain.join(5)
    assert best < 40e-6


def _cost_s(call: Callable[[], object], rounds: int = 500) -> float:
    began = time.thread_time()
    for _ in range(rounds):
        call()
    return (time.thread_time() - began) / rounds


def _drain(fd: int) -> None:
    with open(fd, "rb") as file:
        while file.read(65_536):
            continue
