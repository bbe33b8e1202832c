"""One row of the eval suite, as data."""

from typing import Literal

from pydantic import Field

from traitrl.core.frozen import Frozen
from traitrl.core.ids import Id


class EvalSpec(Frozen):
    """What an eval measures, where its items come from, and how its number is read.

    ``task`` names an Inspect task; it is empty for rows whose items nobody has released, which then run only on items that a
    study supplies. ``sign`` is +1 where a higher raw metric is more aligned and -1 where it is less; it is applied in one
    place, so that higher is more aligned in every record.
    """

    id: Id
    family: Id
    stands_for: str
    description: str
    task: str = ""
    args: dict[str, str | int | float | bool | list[str]] = Field(default_factory=dict)
    metric: str = ""
    sign: Literal[1, -1] = 1
    judge_arg: str = ""
    data: str = ""
    revision: str = ""
    licence: str = "unknown"
    gated: bool = False
    needs: tuple[Literal["docker", "network", "judge", "tools", "items"], ...] = ()
    items: int = Field(default=0, ge=0)
    cluster: str = ""
    source: str = ""
