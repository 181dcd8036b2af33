"""What the tests through the front door share."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

IN_MEMORY = Path("/dev/shm")
ON_UVLOOP = frozenset({"test_departures.py", "test_front_door.py", "test_revocation.py", "test_slow_reader.py"})
"""What depends on how a transport ends or stalls is proven on the event loop that serves in production."""


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.name in ON_UVLOOP:
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """An own folder, in memory where the system has such a place: a hundred stores are made here, and none of these
    tests is about what survives a power cut."""
    place = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="codex-relay-flow-", dir=place) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def no_system_roots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No public authority is trusted: nothing here speaks to the world, and reading them all takes longer than most
    of these tests."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "no-roots.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "no-roots"))
