"""The release, said once; pyproject.toml holds the same and a test compares them."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
