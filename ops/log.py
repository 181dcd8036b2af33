"""One JSON object a line on standard error, and never a reason for the gateway to wait.

The pipeline: level filter -> bound context -> exception description -> redaction -> time stamp -> serialiser ->
:class:`Sink`. Rules that hold:

* redaction is a step of the pipeline, after everything that adds text; a line is always one line and parses as JSON;
* an exception is its type, message and frames (file:line function); source lines and locals are never shown;
* the event loop never writes: lines go into a bounded queue that a writer thread empties. A reader that does not
  read (B63) fills the queue; then lines are dropped and counted, and the count is logged when there is room again;
* uvicorn's, asyncio's and everybody's stdlib logging and warnings go through the same pipeline;
* one line goes past it, because every request writes it: :func:`summary_of`. Its fields are known words and numbers;
  those that a stranger can fill are named by the caller and redacted one by one.

:func:`configure` is called once per process, after the last fork. What it does not do: sampling, files, rotation.
"""

from __future__ import annotations

import atexit
import logging
import os
import select
import stat
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Literal, cast

import msgspec
import structlog

from ops import redact

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["json", "console"]

_LEVELS: Final[dict[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_FRAMES: Final = 12
_CAUSES: Final = 4
# Lines wait this long for company: at load one write then carries many, and one wake-up of the thread as well. Each
# write lets go of the interpreter and has to get it back from the event loop.
_GATHER_S: Final = 0.05
# Several workers write into one pipe: up to this size a write is whole, beyond it lines of two may mix.
_PIPE_BYTES: Final = select.PIPE_BUF
_FILE_BYTES: Final = 64 * 1024
_FOREIGN: Final = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "asyncio", "py.warnings")

_encode = msgspec.json.Encoder(enc_hook=str).encode
_clean = lru_cache(maxsize=512)(redact.text)  # names of models, tenants and accounts come again and again

Summary = Callable[[str, dict[str, Any], tuple[str, ...]], None]


class Sink:
    """A bounded queue in front of a file descriptor, emptied by one thread of its own.

    ``write`` never blocks and never raises. ``dropped`` counts the lines that found the queue full; ``on_drop`` is
    called for each of them.
    """

    def __init__(self, fd: int, *, max_lines: int = 10_000, on_drop: Callable[[], object] | None = None) -> None:
        self._fd = fd
        self._max_lines = max_lines
        self._write_bytes = _FILE_BYTES if stat.S_ISREG(os.fstat(fd).st_mode) else _PIPE_BYTES
        self.on_drop = on_drop
        self._lines: deque[bytes] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._unreported = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queues one line (without its newline), or drops and counts it."""
        if len(self._lines) >= self._max_lines:
            self.dropped += 1
            self._unreported += 1
            if self.on_drop is not None:
                self.on_drop()
            return
        self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def close(self, timeout_s: float = 1.0) -> bool:
        """Writes what is queued, for at most ``timeout_s``; True when all of it went out."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive() and not self._lines

    def _run(self) -> None:
        while not (self._closing.is_set() and not self._lines):
            self._wake.wait()
            self._closing.wait(_GATHER_S)
            self._wake.clear()
            try:
                self._empty()
            except OSError:
                # Nobody can be told: standard error itself is gone. The lines are lost, and counted.
                self.dropped += len(self._lines)
                self._lines.clear()

    def _empty(self) -> None:
        while self._lines:
            batch = bytearray()
            while self._lines and (not batch or len(batch) + len(self._lines[0]) < self._write_bytes):
                batch += self._lines.popleft()
                batch += b"\n"
            self._write_all(memoryview(batch))
        if self._unreported:
            count, self._unreported = self._unreported, 0
            time = datetime.now(UTC).isoformat()
            self._lines.append(_encode({"time": time, "level": "warning", "event": "log.dropped", "count": count}))
            self._wake.set()

    def _write_all(self, data: memoryview) -> None:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                # Somebody made the shared descriptor non-blocking: wait as a blocking write would.
                self._closing.wait(0.02)


class _SinkLogger:
    """What structlog calls at the end of the pipeline; every level is the same write."""

    __slots__ = ("msg",)

    def __init__(self, sink: Sink) -> None:
        self.msg = sink.write

    def __getattr__(self, name: str) -> Callable[[bytes], None]:
        if name in _LEVELS or name in {"log", "exception", "warn", "fatal"}:
            return self.msg
        raise AttributeError(name)


class _Bridge(logging.Handler):
    """Carries stdlib records into the pipeline."""

    def __init__(self, logger: structlog.typing.FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = str(record.msg)  # a foreign format string that does not fit its arguments
        if record.name == "py.warnings":
            message = message.partition("\n")[0]  # the rest is source text
        extra: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            extra["exc_info"] = record.exc_info
        self._logger.log(_rounded(record.levelno), message, **extra)


def configure(
    level: Level = "info",
    format: Format = "json",  # noqa: A002 - the setting's name
    *,
    fd: int | None = None,
    on_drop: Callable[[], object] | None = None,
) -> Sink:
    """Sets up logging for this process and returns the sink (its ``dropped`` is a metric; close it last).

    ``fd`` is standard error unless given. ``on_drop`` is called once per dropped line, from the thread that logged.
    """
    sink = Sink(
        sys.__stderr__.fileno() if fd is None and sys.__stderr__ is not None else 2 if fd is None else fd,
        on_drop=on_drop,
    )
    structlog.configure(
        processors=_pipeline(format),
        wrapper_class=_bound_logger(_LEVELS[level], sink, format),
        logger_factory=lambda *_args: _SinkLogger(sink),
        cache_logger_on_first_use=True,
    )
    _adopt_stdlib(_LEVELS[level])
    atexit.register(sink.close)
    return sink


def get_logger(**context: Any) -> structlog.typing.FilteringBoundLogger:
    """A logger with ``context`` on every line. Safe at import time: it is set up on first use.

    Call it as ``log.info("noun.verb", field=value)``: a constant event name, everything else in fields.
    """
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger(**context))


def summary_of(log: structlog.typing.FilteringBoundLogger) -> Summary | None:
    """``summary(event, fields, foreign)``: the same line as ``log.info(event, **fields)``, at a third of the price.

    ``foreign`` names the texts among the fields that are not ours; no other field may hold a secret or a text of
    unknown length. None for a logger that is not set up by :func:`configure`, or not for JSON at this level.
    """
    summary: Summary | None = getattr(log.bind(), "summary", None)
    return summary


def _bound_logger(level: int, sink: Sink, form: Format) -> type[Any]:
    base: type[Any] = structlog.make_filtering_bound_logger(level)
    if form != "json" or level > _LEVELS["info"]:
        return base

    class Summarising(base):  # type: ignore[misc]  # the library makes the base at run time
        def summary(self, event: str, fields: dict[str, Any], foreign: tuple[str, ...]) -> None:
            for name in foreign:
                if (told := fields.get(name)) is not None:
                    fields[name] = _clean(told)
            now = datetime.now(UTC).isoformat()[:-6] + "Z"
            context = self._context or structlog.contextvars.get_contextvars()
            if context:
                fields = redact.fields(structlog.contextvars.get_contextvars() | self._context) | fields
            sink.write(_encode({"time": now, "level": "info", "event": event, **fields}))

    return Summarising


def _pipeline(form: Format) -> list[structlog.typing.Processor]:
    serialise = _json_line if form == "json" else _console_line()
    return [
        structlog.contextvars.merge_contextvars,
        _level,
        _exception,
        redact.event,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        serialise,
    ]


def _level(_logger: Any, method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event_dict["level"] = "error" if method == "exception" else "warning" if method == "warn" else method
    return event_dict


def _exception(_logger: Any, _method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    given = event_dict.pop("exc_info", None)
    if not given:
        return event_dict
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else sys.exception()
    if error is not None:
        event_dict["exception"] = describe(error)
    return event_dict


def describe(error: BaseException) -> list[dict[str, Any]]:
    """``error`` and what caused it, outermost first: type, message and the innermost frames. No source, no locals."""
    chain: list[dict[str, Any]] = []
    current: BaseException | None = error
    while current is not None and len(chain) < _CAUSES:
        chain.append(
            {"type": type(current).__qualname__, "message": str(current), "at": _frames(current.__traceback__)}
        )
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return chain


def _frames(trace: TracebackType | None) -> list[str]:
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(trace)][-_FRAMES:]
    return [f"{'/'.join(code.co_filename.split('/')[-3:])}:{line} {code.co_name}" for code, line in frames]


def _json_line(_logger: Any, _method: str, event_dict: MutableMapping[str, Any]) -> bytes:
    # What a person looks for first stands first.
    time, level, event = event_dict.pop("time"), event_dict.pop("level"), event_dict.pop("event")
    return _encode({"time": time, "level": level, "event": event, **event_dict})


def _console_line() -> structlog.typing.Processor:
    renderer = structlog.dev.ConsoleRenderer(colors=False, timestamp_key="time", sort_keys=False)

    def render(logger: Any, method: str, event_dict: MutableMapping[str, Any]) -> bytes:
        # The renderer has its own idea of the field "exception"; ours is data, already redacted.
        for number, error in enumerate(event_dict.pop("exception", ())):
            where = " < ".join(reversed(error["at"]))
            event_dict[f"error_{number}"] = f"{error['type']}: {error['message']} at {where}"
        return str(renderer(logger, method, event_dict)).encode("utf-8", "backslashreplace")

    return render


def _adopt_stdlib(level: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = [_Bridge(get_logger())]
    # Libraries at info are chatter (httpx logs every request with its URL); their warnings are news.
    root.setLevel(max(level, logging.WARNING))
    for name in _FOREIGN:
        foreign = logging.getLogger(name)
        foreign.handlers.clear()
        foreign.setLevel(logging.NOTSET)
        foreign.disabled = False
        foreign.propagate = True
    logging.getLogger("uvicorn").setLevel(level)
    logging.captureWarnings(True)


def _rounded(level: int) -> int:
    return max((known for known in _LEVELS.values() if known <= level), default=10)
