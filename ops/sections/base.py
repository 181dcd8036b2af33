"""What every section of the settings is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0, le=86_400 * 30)]
OptionalLimit = Annotated[int | None, Field(gt=0)]


class Section(BaseModel):
    """One table of the configuration file: frozen, and closed to names that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
