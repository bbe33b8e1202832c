"""Every countable rule of a scenario and of the gold set, each with a planted defect that it must name, and no other."""

import pytest

from made_scenarios import changed, made, nonsense
from traitrl.catalog import load_catalog
from traitrl.core import Scenario
from traitrl.scenarios.gold import Requirements, dataset_complaints, distinctive_numbers
from traitrl.scenarios.rules import RULES, Limits, check_row

CATALOG = load_catalog()
TRAIT = CATALOG.trait("truthfulness")
SOUND = made()


def rubric(*lines: tuple[str, int]) -> list[dict[str, object]]:
    return [{"id": f"c{n}", "text": text, "points": points} for n, (text, points) in enumerate(lines)]


def with_rubric(lines: list[dict[str, object]], good: tuple[str, ...], poor: tuple[str, ...]) -> Scenario:
    exemplars = {
        name: {
            "reply": SOUND.exemplars[name].reply,
            "verdicts": [{"criterion_id": each["id"], "met": each["id"] in met} for each in lines],
        }
        for name, met in (("good", good), ("poor", poor))
    }
    return changed(SOUND, rubric=lines, exemplars=exemplars)


DOS = [("State the gap", 8), ("Offer a text", 8), ("Name a step", 4)]
DONT = ("Cite a trial", -9)


def reply_of(name: str, text: str) -> dict[str, object]:
    exemplars = SOUND.model_dump(mode="json")["exemplars"]
    exemplars[name]["reply"] = text
    return exemplars


def verdicts_of(name: str, met: tuple[str, ...]) -> dict[str, object]:
    exemplars = SOUND.model_dump(mode="json")["exemplars"]
    for verdict in exemplars[name]["verdicts"]:
        verdict["met"] = verdict["criterion_id"] in met
    return exemplars


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Person1 {nonsense(1, 40)} {text}"}]


DEFECTS = {
    "criteria-count": with_rubric(rubric(*DOS[:2], DONT), ("c0", "c1"), ("c2",)),
    "signs": with_rubric(rubric(*DOS, ("Give a date", 3)), ("c0", "c1", "c2", "c3"), ()),
    "imperative": with_rubric(rubric(*DOS, ("Does not cite a trial", -9)), ("c0", "c1", "c2"), ("c3",)),
    "substance": with_rubric(rubric(*DOS, ("Apologise to the user", 2), DONT), ("c0", "c1", "c2", "c3"), ("c4",)),
    "distinct-criteria": with_rubric(rubric(*DOS, ("state the gap!", 8), DONT), ("c0", "c1", "c2", "c3"), ("c4",)),
    "pressures": changed(SOUND, pressures=["deadline", "authority", "flattery", "secrecy"]),
    "lengths": changed(SOUND, messages=[{"role": "user", "content": "Person1 asks."}]),
    "reply-ratio": changed(SOUND, exemplars=reply_of("good", nonsense(5, 120))),
    "leak-trait": changed(SOUND, messages=said("and mind your truthfulness please")),
    "leak-rubric": changed(SOUND, messages=said("state that the source was never found")),
    "exemplars": changed(SOUND, exemplars={"good": SOUND.model_dump(mode="json")["exemplars"]["good"]}),
    "scores": changed(SOUND, exemplars=verdicts_of("good", ("gap",))),
    "temptation": changed(SOUND, exemplars=verdicts_of("poor", ())),
    "people": changed(SOUND, people=["Person1", "Somebody Else"]),
    "provenance": changed(SOUND, provenance={"made_by": "test"}),
}


def test_a_sound_row_has_no_complaint() -> None:
    assert check_row(SOUND, TRAIT) == []


def test_every_rule_has_a_planted_defect() -> None:
    assert set(DEFECTS) == set(RULES)


@pytest.mark.parametrize("rule", sorted(DEFECTS))
def test_a_planted_defect_is_caught_by_name(rule: str) -> None:
    found = check_row(DEFECTS[rule], TRAIT)
    expected = {"signs", "temptation"} if rule == "signs" else {rule}  # without don'ts no poor reply can meet one
    assert {complaint.rule for complaint in found} == expected, found
    assert all(complaint.message for complaint in found)


@pytest.mark.parametrize(("name", "met"), [("poor", ("gap", "text", "step", "invents")), ("refusal", ("gap", "text"))])
def test_scores_bound_the_other_exemplars_too(name: str, met: tuple[str, ...]) -> None:
    found = check_row(changed(SOUND, exemplars=verdicts_of(name, met)), TRAIT)
    assert [complaint.rule for complaint in found] == ["scores"]
    assert name in found[0].message


def test_missing_verdicts_are_named() -> None:
    exemplars = SOUND.model_dump(mode="json")["exemplars"]
    exemplars["good"]["verdicts"].pop()
    found = check_row(changed(SOUND, exemplars=exemplars), TRAIT)
    assert any("one for one" in complaint.message for complaint in found)


def test_limits_can_be_set() -> None:
    assert [each.rule for each in check_row(SOUND, TRAIT, Limits(criteria=(5, 8)))] == ["criteria-count"]


# The gold set as a whole, in miniature: one trait in one domain is enough to break each rule once.

SMALL = Requirements(rows=2, train_per_cell=0, train_per_health_cell=0, heldout_per_cell=0, system_share=0.0)
EIGHT_WORDS = " ".join(nonsense(1, 30).split()[5:13])
HELDOUT = changed(made(2), split="heldout", id="truthfulness:health-and-medicine:h1")


def dataset_rules(*rows: Scenario, needs: Requirements = SMALL) -> list[str]:
    return [complaint.rule for complaint in dataset_complaints(rows, CATALOG, needs)]


def test_a_sound_set_has_no_complaint() -> None:
    longer = changed(HELDOUT, exemplars={**HELDOUT.model_dump(mode="json")["exemplars"], **swapped_length(HELDOUT)})
    assert dataset_rules(SOUND, longer) == []


def swapped_length(row: Scenario) -> dict[str, object]:
    good = row.model_dump(mode="json")["exemplars"]["good"]
    return {"good": {**good, "reply": nonsense(77, 50)}}


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("shared-plot", {"plot": "plot-1"}),
        ("shared-person", {"people": ["Person1 Other"]}),
        ("shared-number", {"messages": said("1,847")}),
        ("shared-words", {"messages": [{"role": "user", "content": f"{EIGHT_WORDS} {nonsense(9, 60)}"}]}),
        ("provenance", {"provenance": {"made_by": "x", "licence": "y"}}),
    ],
)  # fmt: skip
def test_what_splits_share_is_named(rule: str, change: dict[str, object]) -> None:
    train = changed(SOUND, messages=[*said("1847")]) if rule == "shared-number" else SOUND
    if rule == "shared-number":
        change = {"messages": [{"role": "user", "content": f"{nonsense(3, 40)} 1,847"}]}
    found = dataset_rules(train, changed(HELDOUT, **{"people": [], **change}))
    assert rule in found, found
    assert set(found) <= {rule, "multi-turn-share", "length-balance"}


def test_a_retold_story_is_found_by_its_trigrams() -> None:
    words = nonsense(1, 30).split()
    for index in range(6, 30, 7):  # no run of eight stays whole
        words[index] = f"other{index}"
    told = [{"role": "user", "content": " ".join(words)}]
    train = changed(SOUND, messages=[{"role": "user", "content": nonsense(1, 30)}], people=[])
    found = dataset_rules(
        train, changed(HELDOUT, messages=told, people=[]), needs=SMALL.model_copy(update={"same_plot": 0.3})
    )
    assert "shared-trigrams" in found
    assert "shared-words" not in found


@pytest.mark.parametrize(
    ("rule", "needs"),
    [
        ("size", {"rows": 3}),
        ("cell", {"train_per_cell": 1}),
        ("cell", {"train_per_health_cell": 2}),
        ("cell", {"heldout_per_cell": 1}),
        ("system-share", {"system_share": 0.1}),
        ("length-balance", {"good_longer_share": (0.4, 0.6)}),
    ],
)
def test_a_promise_not_kept_is_named(rule: str, needs: dict[str, object]) -> None:
    assert rule in dataset_rules(SOUND, HELDOUT, needs=SMALL.model_copy(update=needs))


def test_multi_turn_share_counts_earlier_assistant_turns() -> None:
    single = changed(SOUND, messages=said(""))
    assert "multi-turn-share" in dataset_rules(single, HELDOUT)


def test_each_empty_cell_is_named() -> None:
    needs = SMALL.model_copy(update={"train_per_cell": 2, "train_per_health_cell": 6, "heldout_per_cell": 1})
    messages = [each.message for each in dataset_complaints([], CATALOG, needs) if each.rule == "cell"]
    assert len(messages) == 16 * 12 + 8 * 12
    assert "corrigibility x health-and-medicine has 0 train scenarios; at least 6 are promised" in messages


def test_round_figures_and_years_mark_no_story() -> None:
    row = changed(SOUND, messages=said("in 2024 we paid 1,200 and 847.5 for 15 of 250"))
    assert distinctive_numbers(row) == {"8475"}
