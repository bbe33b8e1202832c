"""The mixture is exact: counts, places and identity of every slot, for any share and any seed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traitrl.core import Arm, ConfigError, Criterion, Message, Scenario, StandardPrompt
from traitrl.training.config import TrainingConfig
from traitrl.training.schedule import build_schedule, order_scenarios, slice_positions

RUBRIC = (Criterion(id="c", text="t", points=1),)
ASK = (Message(role="user", content="hello"),)
STANDARD = [StandardPrompt(id=f"std-{i}", kind="k", messages=ASK, rubric=RUBRIC) for i in range(60)]
SCENARIOS = [
    Scenario(id=f"sc-{t}-{i}", trait=f"t{t}", domain="d", pressures=("p",), messages=ASK, rubric=RUBRIC, split="train")
    for t in range(4)
    for i in range(5)
]
TRAITS, PLAIN = Arm(id="traits", title="", slice="traits"), Arm(id="standard", title="")


@given(st.integers(1, 400), st.floats(0, 1), st.integers(0, 10**6))
def test_one_slice_slot_in_each_stratum(slots: int, share: float, seed: int) -> None:
    count = round(share * slots)
    positions = slice_positions(slots, count, seed)
    assert len(positions) == len(set(positions)) == count
    for stratum, position in enumerate(positions):
        assert stratum * slots // count <= position < (stratum + 1) * slots // count


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(1, 8), st.sampled_from([0.0, 0.05, 0.1, 0.25]), st.integers(0, 999))
def test_arms_differ_in_the_slice_and_nowhere_else(steps: int, prompts: int, share: float, seed: int) -> None:
    config = TrainingConfig(steps=steps, prompts_per_step=prompts, share=share)
    traits = build_schedule(TRAITS, config, SCENARIOS, STANDARD, seed)
    plain = build_schedule(PLAIN, config, [], STANDARD, seed)
    assert [row.slot for row in traits] == list(range(config.prompt_slots)) == [row.slot for row in plain]
    assert sum(row.in_slice for row in traits) == config.slice_slots == sum(row.stream == "traits" for row in traits)
    reserve = {row.row_id for row in plain if row.in_slice}
    for one, other in zip(traits, plain):
        assert one.in_slice == other.in_slice
        assert one.stream == ("traits" if one.in_slice else "standard") and other.stream == "standard"
        assert one.in_slice or one.row_id == other.row_id
    assert not reserve & {row.row_id for row in plain if not row.in_slice}
    assert build_schedule(TRAITS, config, SCENARIOS, STANDARD, seed) == traits


def test_traits_take_turns() -> None:
    order = order_scenarios(SCENARIOS, seed=1)
    assert sorted(row.id for row in order) == sorted(row.id for row in SCENARIOS)
    for start in range(0, len(order), 4):
        assert {row.trait for row in order[start : start + 4]} == {"t0", "t1", "t2", "t3"}
    assert order == order_scenarios(SCENARIOS[::-1], seed=1) != order_scenarios(SCENARIOS, seed=2)


def test_what_cannot_be_scheduled_is_refused_by_name() -> None:
    config = TrainingConfig(steps=10, prompts_per_step=10, share=0.5)
    with pytest.raises(ConfigError, match="reserve of 50"):
        build_schedule(PLAIN, config, [], STANDARD[:60], 0)
    with pytest.raises(ConfigError, match="'traits' has no training scenarios"):
        build_schedule(TRAITS, TrainingConfig(steps=4, prompts_per_step=5), [], STANDARD, 0)


@pytest.mark.parametrize(
    "fields", [{"share": 1.2}, {"share": -0.1}, {"steps": 10, "checkpoints": 3}, {"replies_per_prompt": 1}]
)
def test_settings_out_of_range_are_refused(fields: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        TrainingConfig(**fields)
