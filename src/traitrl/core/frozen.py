"""The one pydantic configuration of the house: immutable, and no unknown keys."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value object: frozen after construction, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
