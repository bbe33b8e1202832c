"""The exact mixture: one row per prompt slot, fixed before training starts.

k = round(share * n) slots, one in each of k equal strata of the run, are *slice* slots. There an arm with a trait slice takes
a trait row and the standard arm a row of a standard reserve that is used nowhere else. All other slots hold the same
standard row in every arm, so arms differ in nothing but those k prompts.
"""

from collections.abc import Sequence
from itertools import cycle, islice, pairwise
from random import Random
from typing import Literal

from traitrl.core import Arm, ConfigError, Frozen, Scenario, StandardPrompt
from traitrl.training.config import TrainingConfig

Stream = Literal["traits", "standard"]


class ScheduleRow(Frozen):
    """What one prompt slot asks: ``slot`` counts from 0 in training order, ``in_slice`` marks the k slice slots."""

    slot: int
    in_slice: bool
    stream: Stream
    row_id: str


def slice_positions(slots: int, count: int, seed: int) -> list[int]:
    """``count`` distinct slots out of ``slots``, one drawn uniformly from each of ``count`` equal strata, ascending."""
    if not 0 <= count <= slots:
        raise ConfigError(f"cannot place {count} slice slots in {slots} prompt slots")
    rng = Random(f"positions:{seed}")
    edges = [stratum * slots // count for stratum in range(count)] + [slots] if count else []
    return [rng.randrange(low, high) for low, high in pairwise(edges)]


def order_scenarios(rows: Sequence[Scenario], seed: int) -> list[Scenario]:
    """A seeded order that visits the traits in turn, so that every trait gets its share of any prefix."""
    rng = Random(f"scenarios:{seed}")
    by_trait: dict[str, list[Scenario]] = {}
    for row in sorted(rows, key=lambda row: row.id):
        by_trait.setdefault(row.trait, []).append(row)
    queues = [rng.sample(queue, len(queue)) for queue in by_trait.values()]
    rng.shuffle(queues)
    rounds = range(max((len(queue) for queue in queues), default=0))
    return [queue[index] for index in rounds for queue in queues if index < len(queue)]


def build_schedule(
    arm: Arm, config: TrainingConfig, scenarios: Sequence[Scenario], standard: Sequence[StandardPrompt], seed: int
) -> list[ScheduleRow]:
    """The schedule of one arm. ``scenarios`` are those the arm may train on; the standard pool is the same for all arms.

    Raises :class:`ConfigError` when the arm has no scenarios or the pool cannot hold a reserve beside the shared rows.
    """
    slots, count = config.prompt_slots, config.slice_slots
    pool = Random(f"standard:{seed}").sample(list(standard), len(standard))
    if count and len(pool) < 2 * count:
        raise ConfigError(f"{len(pool)} standard prompts cannot hold a reserve of {count}; add rows or lower `share`")
    reserve, shared = pool[:count], pool[count:]
    if not shared:
        raise ConfigError("there are no standard prompts to train on")
    if arm.slice == "traits":
        if count and not scenarios:
            raise ConfigError(f"arm {arm.id!r} has no training scenarios; widen its domains or traits")
        ids = [row.id for row in islice(cycle(order_scenarios(scenarios, seed)), count)]
    else:
        ids = [row.id for row in reserve]
    in_slice = dict(zip(slice_positions(slots, count, seed), ids, strict=True))
    rest = (row.id for row in cycle(shared))
    rows: list[ScheduleRow] = []
    for slot in range(slots):
        row_id = in_slice.get(slot)
        stream: Stream = arm.slice if row_id is not None else "standard"
        rows.append(ScheduleRow(slot=slot, in_slice=row_id is not None, stream=stream, row_id=row_id or next(rest)))
    return rows
