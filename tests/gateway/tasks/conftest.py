"""An open house for every test of the tasks' API."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gateway.tasks.rig import TaskHouse


@pytest.fixture
async def house(tmp_path: Path) -> TaskHouse:
    return await TaskHouse(tmp_path / "results").open()
