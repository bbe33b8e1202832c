"""Training conditions as data."""

from typing import Literal

from pydantic import Field

from traitrl.core.frozen import Frozen
from traitrl.core.ids import Id


class Arm(Frozen):
    """One training condition.

    ``slice`` is the stream that fills the k = round(share * n) slice slots; all other slots hold the same standard rows in
    every arm.
    ``slice_rubric`` says what grades the replies of the slice: each scenario's own rubric, or one generic rubric of that name.
    """

    id: Id
    title: str
    train: bool = True
    slice: Literal["traits", "standard"] = "standard"
    domains: str = "all"
    exclude_domains: str = ""
    traits: str = "all"
    slice_rubric: str = Field(default="own", description="'own' or the name of a generic rubric")
