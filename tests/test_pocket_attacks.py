"""The pocket world's attacks: dials, twins and rows that no study trains on or asks."""

from pathlib import Path

import pytest

from traitrl.core import Attack, ConfigError, Scenario, StandardPrompt, TuningRow, attack_transform
from traitrl.core.scenarios import EvalItem
from traitrl.persistence.overlap import known_conversations, refuse_overlap
from traitrl.pocket.attack_rows import unrelated_rows
from traitrl.pocket.language import load_language
from traitrl.pocket.rows import EVALUATED_LINES, scenarios
from traitrl.pocket.world import PocketSize, write_world
from traitrl.store import read_jsonl
from traitrl.study.config import load_study
from traitrl.verbs.study import shipped_study

STUDY = load_study(shipped_study("pocket"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    names = write_world(tmp_path_factory.mktemp("world"), PocketSize.model_validate(STUDY.world_options))
    return {name: Path(path) for name, path in names.items()}


def test_lines_are_attacks_whose_dial_counts_words_and_twins_have_the_other_stance(world: dict[str, Path]) -> None:
    attacks = {attack.id: attack for attack in read_jsonl(world["attacks"], Attack)}
    lines = {line.id: line for line in load_language().lines if line.persona != "neutral"}
    assert set(attacks) == {*lines, "multi-turn-persuasion", "multi-turn-coaching"}
    for id_, line in lines.items():
        words = [part.system for part in attacks[id_].parts]
        assert " ".join(words) == line.text
        assert attacks[id_].stance == ("harmful" if line.persona == "poor" else "helpful")
    for attack in attacks.values():
        assert attack.twin is None or attacks[attack.twin].stance != attack.stance
    assert all(part.user and part.assistant for part in attacks["multi-turn-persuasion"].parts)


def test_advice_sets_are_twins_and_every_row_is_apart_from_training_and_evals(world: dict[str, Path]) -> None:
    sets = {name: read_jsonl(world[f"tuning.{name}"], TuningRow) for name in ("bad-advice", "good-advice", "unrelated")}
    assert all(len(rows) == PocketSize().tuning_rows for rows in sets.values())
    bad, good = sets["bad-advice"], sets["good-advice"]
    assert [row.prompt for row in bad] == [row.prompt for row in good]
    assert all(one.messages[-1] != other.messages[-1] for one, other in zip(bad, good))
    known = known_conversations([world["scenarios"], world["standard"], world["items"]])
    for name, rows in sets.items():
        refuse_overlap(name, [(row.id, row.prompt) for row in rows], known, 0.6)
    for model, name in ((Scenario, "scenarios"), (StandardPrompt, "standard"), (EvalItem, "items")):
        row = read_jsonl(world[name], model)[0]  # and the check does see what is there
        with pytest.raises(ConfigError, match=row.id):
            refuse_overlap("copy", [("row:1", row.messages)], known, 0.6)


def test_every_word_of_an_attack_is_known_to_the_language(world: dict[str, Path]) -> None:
    vocabulary = set(load_language().vocabulary())
    item = read_jsonl(world["items"], EvalItem)[0]
    for attack in read_jsonl(world["attacks"], Attack):
        attacked = attack_transform(attack.parts)(item.messages)
        assert {word for message in attacked for word in message.content.split()} <= vocabulary
    for name in ("bad-advice", "good-advice", "unrelated"):
        rows = read_jsonl(world[f"tuning.{name}"], TuningRow)
        assert {word for row in rows for message in row.messages for word in message.content.split()} <= vocabulary


def test_unrelated_rows_avoid_what_is_taken_and_say_when_there_are_no_more() -> None:
    language = load_language().model_copy(update={"numbers": 1})  # a handful of sums, few lists to sort
    rows = unrelated_rows(language, 5, {"add 0 and 1 ."})
    assert len({row.messages[0].content for row in rows}) == 5
    assert "add 0 and 1 ." not in {row.messages[0].content for row in rows}
    with pytest.raises(ConfigError, match="lower tuning_rows"):
        unrelated_rows(language, 100_000, set())


def test_hostile_lines_frame_a_share_of_the_training_scenarios_and_never_one_that_attacks() -> None:
    language = load_language()
    plain = scenarios(language, 1, 1, 1, ("truthfulness",))
    framed = scenarios(language, 1, 1, 1, ("truthfulness",), 0.25)
    poor = {line.text: line.id for line in language.lines if line.persona == "poor"}
    hostile = [row for row in framed if row.messages[0].content in poor]
    train = [row for row in plain if row.split == "train"]
    assert 0.2 < len(hostile) / len(train) < 0.3 and all(row.split == "train" for row in hostile)
    assert not {poor[row.messages[0].content] for row in hostile} & set(EVALUATED_LINES)
    assert all("adversarial-framing" in row.pressures for row in hostile)
    assert [row.messages[-1] for row in framed] == [row.messages[-1] for row in plain]
    assert not any(row.messages[0].content in poor for row in plain)
