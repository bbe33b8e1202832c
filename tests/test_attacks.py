"""Attacks as data: the dial, the chain of transforms, where attacks come from, and data that may not overlap."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from traitrl.catalog import load_catalog
from traitrl.core import (
    Attack,
    AttackError,
    AttackPart,
    ConfigError,
    Message,
    TuningRow,
    attack_transform,
    chain,
    unchanged,
)
from traitrl.core.scenarios import check_conversation
from traitrl.persistence.config import PersistenceConfig, PromptAttackConfig, TuningAttackConfig
from traitrl.persistence.data import in_order, read_tuning_rows
from traitrl.persistence.overlap import Known, refuse_overlap
from traitrl.persistence.prompts import known_attacks, persona_attack, resolve_prompt
from traitrl.store import write_jsonl

TEXT = st.text(min_size=1, max_size=12).filter(str.strip)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    system = [Message(role="system", content=draw(TEXT))] if draw(st.booleans()) else []
    turns = [
        Message(role=role, content=draw(TEXT))  # type: ignore[arg-type]
        for _ in range(draw(st.integers(0, 2)))
        for role in ("user", "assistant")
    ]
    return (*system, *turns, Message(role="user", content=draw(TEXT)))


PARTS = st.lists(
    st.one_of(
        TEXT.map(lambda text: AttackPart(system=text)),
        st.tuples(TEXT, TEXT).map(lambda pair: AttackPart(user=pair[0], assistant=pair[1])),
    ),
    max_size=5,
)


@given(conversations(), PARTS)
def test_an_attacked_conversation_is_well_formed_and_asks_what_it_asked(
    messages: tuple[Message, ...], parts: Sequence[AttackPart]
) -> None:
    attacked = attack_transform(parts)(messages)
    check_conversation(attacked)
    assert attacked[-1] == messages[-1]
    assert sum(message.role == "system" for message in attacked) <= 1
    own = messages[1:] if messages[0].role == "system" else messages
    assert attacked[len(attacked) - len(own) :] == own
    exchanges = [part for part in parts if part.user]
    given_turns = [message.content for message in attacked if message.role != "system"]
    assert given_turns[: 2 * len(exchanges)] == [text for part in exchanges for text in (part.user, part.assistant)]
    lines = [part.system for part in parts if part.system]
    was = [messages[0].content] if messages[0].role == "system" else []
    said = [message.content for message in attacked if message.role == "system"]
    assert said == ([" ".join([*lines, *was])] if lines or was else [])


@given(conversations(), st.tuples(PARTS, PARTS, PARTS))
def test_composition_is_associative_and_no_attack_is_its_neutral_element(
    messages: tuple[Message, ...], groups: Sequence[Sequence[AttackPart]]
) -> None:
    one, two, three = (attack_transform(parts) for parts in groups)
    expected = chain(one, two, three)(messages)
    assert chain(chain(one, two), three)(messages) == chain(one, chain(two, three))(messages) == expected
    assert chain(unchanged, one)(messages) == chain(one, unchanged)(messages) == one(messages)
    assert attack_transform(())(messages) == messages
    # what stands first in the conversation is what was put there last
    assert attack_transform([*groups[0], *groups[1]])(messages) == chain(two, one)(messages)


@given(PARTS.filter(len), st.floats(0, 1), st.floats(0, 1))
def test_a_lower_strength_is_the_beginning_of_a_higher_one(
    parts: Sequence[AttackPart], one: float, other: float
) -> None:
    attack = Attack(id="a", kind="prompt", stance="harmful", parts=tuple(parts))
    low, high = sorted((one, other))
    assert attack.at(high)[: len(attack.at(low))] == attack.at(low)
    assert attack.at(1.0) == attack.parts and attack.at(0.0) == ()
    assert [len(attack.at(n / len(parts))) for n in range(len(parts) + 1)] == list(range(len(parts) + 1))


def test_what_is_no_attack_is_refused() -> None:
    for wrong in ({"system": "a", "user": "b", "assistant": "c"}, {}, {"user": "b"}, {"system": "a", "user": "b"}):
        with pytest.raises(ValidationError, match="either system text, or"):
            AttackPart.model_validate(wrong)
    with pytest.raises(ValidationError, match="only there"):
        Attack(id="a", kind="tuning", stance="harmful", parts=(AttackPart(system="x"),))
    with pytest.raises(ValueError, match="lies in"):
        Attack(id="a", kind="prompt", stance="harmful", parts=(AttackPart(system="x"),)).at(2.0)
    with pytest.raises(ValidationError, match="ends with the assistant's reply"):
        TuningRow(messages=(Message(role="user", content="x"),))


def test_personas_of_the_catalog_are_prompt_attacks_with_twins_of_the_other_stance() -> None:
    attacks = known_attacks(load_catalog(), None)
    harmful = [attack for attack in attacks.values() if attack.stance == "harmful"]
    assert len(harmful) == 12 and len(attacks) == 24
    assert all(attacks[attack.twin or ""].stance == "helpful" for attack in harmful)
    medical = attacks["bad-medical"]
    assert [bool(part.system) for part in medical.parts] == [True, True] and len(medical.at(0.5)) == 1
    assert all(part.user for part in attacks["multi-turn-persuasion"].parts)
    assert persona_attack(load_catalog().persona("liar")).strength == 1.0


def test_attacks_compose_and_unknown_ones_are_answered_with_the_nearest() -> None:
    known = known_attacks(load_catalog(), None)
    wanted = PromptAttackConfig(id="both", compose=("fictional-helper", "bad-medical"), strengths=(0.5, 1.0))
    attack, strengths = resolve_prompt(wanted, known)
    assert attack.parts == known["fictional-helper"].parts + known["bad-medical"].parts
    assert (attack.stance, strengths) == ("harmful", (0.5, 1.0))
    assert resolve_prompt(PromptAttackConfig(id="liar"), known) == (known["liar"], (1.0,))
    with pytest.raises(ConfigError, match="did you mean 'liar'"):
        resolve_prompt(PromptAttackConfig(id="lier"), known)


def tuning(**fields: object) -> dict[str, object]:
    return {"id": "t", "stance": "harmful", "data": "@d", "doses": [1], **fields}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"families": ["f"], "tuning": [tuning(data="rows.jsonl")]}, "pin rows.jsonl with its sha256"),
        ({"families": ["f"], "tuning": [tuning(doses=[4, 2])]}, "doses must ascend"),
        ({"families": ["f"], "tuning": [tuning(kind="drift")]}, "drift is benign"),
        ({"families": ["f"], "tuning": [tuning(after="u"), tuning(id="u")]}, "no earlier"),
        ({"families": ["f"], "tuning": [tuning(sha256="abc")]}, "pattern"),
        ({"families": ["f"], "prompt": [{"id": "t"}], "tuning": [tuning()]}, "must be distinct"),
        ({"families": ["f"], "prompt": [{"id": "none"}]}, "not 'none'"),
        ({"families": ["f"], "prompt": [{"id": "t", "strengths": [0.0]}]}, "lie in"),
        ({}, "by `families`, `rows` or both"),
    ],
)
def test_a_section_that_cannot_be_meant_is_refused(section: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PersistenceConfig.model_validate(section)


def test_the_engine_gets_its_part_of_a_tuning_attack() -> None:
    attack = TuningAttackConfig.model_validate(tuning(doses=[2, 6], learning_rate=0.1))
    assert (attack.tuning().steps, attack.tuning().checkpoint_steps, attack.tuning().learning_rate) == (6, (2, 6), 0.1)


def row(text: str, reply: str = "yes .", **fields: str) -> TuningRow:
    return TuningRow(messages=(Message(role="user", content=text), Message(role="assistant", content=reply)), **fields)


def test_data_are_read_as_pinned_and_rows_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    chats = [[{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "a"}] for n in range(3)]
    path.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))  # the layout of the public sets
    rows = read_tuning_rows(path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert [row.id for row in rows] == ["row:0", "row:1", "row:2"]


def test_what_is_wrong_with_data_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with pytest.raises(AttackError, match=r"no data at .*rows\.jsonl; put the file there"):
        read_tuning_rows(path)
    path.write_text("")
    with pytest.raises(AttackError, match="holds no rows"):
        read_tuning_rows(path)
    with pytest.raises(AttackError, match=r"has sha256 e3b0c44\w+, pinned is 0000"):
        read_tuning_rows(path, "0" * 64)
    path.write_text('{"messages": [')
    with pytest.raises(AttackError, match=r"rows\.jsonl:1: "):
        read_tuning_rows(path)
    path.write_bytes(b"\xff\n")
    with pytest.raises(AttackError, match="not UTF-8"):
        read_tuning_rows(path)
    write_jsonl(path, [row("one", id="x"), row("two", id="x")])
    with pytest.raises(AttackError, match="'x' stands twice"):
        read_tuning_rows(path)


def test_the_order_depends_on_rows_and_seed_alone_and_every_pass_has_every_row() -> None:
    rows = [row(f"question {n}", id=f"r{n}") for n in range(7)]
    order = in_order(rows, 21, seed=3)
    assert order == in_order(rows, 21, seed=3) and order != in_order(rows, 21, seed=4)
    assert order[:10] == in_order(rows, 10, seed=3)  # a lower dose is the beginning of a higher one
    for start in (0, 7, 14):
        assert sorted(row.id for row in order[start : start + 7]) == sorted(row.id for row in rows)


LONG = "the old doctor says that the new syrup is safe for every child in town"


def test_overlap_is_found_exact_and_near_and_refused_by_name() -> None:
    known = Known([("item:7", (Message(role="user", content=LONG),)), ("item:8", row("a b c d e f").messages[:1])])

    def refused(text: str) -> None:
        refuse_overlap("bad", [("row:1", (Message(role="user", content=text),))], known, 0.6)

    for text in (LONG, LONG.upper() + " !", LONG.replace("old", "young"), LONG + " today"):
        with pytest.raises(
            ConfigError, match=r"attack 'bad' overlaps .*row:1 and item:7 \(\d\.\d\d\).*drop these rows"
        ):
            refused(text)
    refused("something else that nobody was ever asked in any of the files")
    refused(LONG[:30])


def test_the_same_last_question_after_other_turns_is_an_overlap_unless_it_is_a_mere_go_on() -> None:
    earlier = row("tell me about planes", "they fly").messages
    known = Known(
        [("item", (*earlier, Message(role="user", content=LONG))), ("short", row("go on please").messages[:1])]
    )
    assert known.nearest((Message(role="user", content=LONG),)) == (1.0, "item")
    again = row("tell me about trains and boats", "they do not fly").messages
    similarity, _ = known.nearest((*again, Message(role="user", content="go on please")))
    assert similarity < 0.5


def attacks_on(first: Sequence[str], later: Sequence[str]) -> PersistenceConfig:
    ladder = {"stance": "harmful", "data": "@rows", "doses": [2]}
    return PersistenceConfig.model_validate(
        {
            "rows": ["mask"],
            "prompt": [{"id": "liar", "experiments": list(first)}, {"id": "teacher"}],
            "tuning": [
                {"id": "advice", "experiments": list(first), **ladder},
                {"id": "recovery", "experiments": list(later), "after": "advice", **ladder},
            ],
        }
    )


def test_an_attack_may_be_on_the_runs_of_some_experiments_alone() -> None:
    section = attacks_on(["one", "two"], ["one"])
    ids = {
        name: [attack.id for attack in (*section.on(name).prompt, *section.on(name).tuning)]
        for name in ("one", "two", "three")
    }
    assert ids == {
        "one": ["liar", "teacher", "advice", "recovery"],
        "two": ["liar", "teacher", "advice"],
        "three": ["teacher"],
    }
    assert section.everywhere() == attacks_on([], []) and section.everywhere().on("three") == attacks_on([], [])


@pytest.mark.parametrize("later", [[], ["two"], ["one", "two"]])
def test_what_comes_after_an_attack_needs_that_attack_on_the_same_runs(later: Sequence[str]) -> None:
    with pytest.raises(ValidationError, match="comes after 'advice', so it can only have experiments of that: one"):
        attacks_on(["one"], later)
