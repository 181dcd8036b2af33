"""What the tests through the front door share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

IN_MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """An own folder, in memory where the system has such a place: a hundred stores are made here, and none of these
    tests is about what survives a power cut."""
    place = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="codex-relay-flow-", dir=place) as folder:
        yield Path(folder)
