"""What a seat among workers means, and how the settings reach whoever sits there."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from ops.seat import Seat
from ops.sections.keep import VaultSettings
from ops.settings import Settings, from_whole_json


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_the_shares_of_a_limit_sum_up(workers: int) -> None:
    for total in range(workers, 40):
        shares = [Seat(index, workers).share(total) for index in range(workers)]
        assert sum(shares) == total
        assert max(shares) - min(shares) <= 1


def test_no_limit_stays_no_limit() -> None:
    assert Seat(1, 3).share(0) == 0


def test_settings_arrive_as_they_were_sent(tmp_path: Path) -> None:
    """Every value, secrets, paths and tables included; and what is printed of them still hides the secret."""
    sent = Settings(
        vault=VaultSettings(provider="env", key=SecretStr("c2VjcmV0"), key_file=tmp_path / "key"),
        models={"aliases": {"fast": "gpt-5.5"}, "hidden": ["x"]},
        limits={"key_requests_per_minute": 7},
    )
    arrived = from_whole_json(sent.whole_json())
    assert arrived == sent
    assert arrived.vault.key is not None
    assert arrived.vault.key.get_secret_value() == "c2VjcmV0"
    assert "c2VjcmV0" not in repr(arrived)
