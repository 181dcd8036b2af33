"""Which worker of how many is this process, and what is its part of what all of them share?"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Seat:
    """Which worker this is, of how many; ``counters`` is the file that they count in together.

    ``replica`` names this start of the gateway and no other, on whatever host; its workers have it in common.
    """

    index: int = 0
    count: int = 1
    counters: Path | None = None
    replica: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def name(self) -> str:
        return f"worker-{self.index}"

    def share(self, total: int) -> int:
        """This worker's part of ``total``, so that the parts sum up; at least 1 unless ``total`` is 0 (no limit).

        A ``total`` below the number of workers cannot be shared out; ops.main refuses it.
        """
        part = total // self.count + (self.index < total % self.count)
        return max(1, part) if total else 0
