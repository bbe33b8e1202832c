"""Generation end to end: scripted, against an unruly server, killed and resumed, with a stranger's trait."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from made_scenarios import made
from traitrl.catalog import check_catalog, load_catalog
from traitrl.chat import ChatRequest, Endpoint, OpenAICompatible, Schema, Scripted
from traitrl.cli import main
from traitrl.core import CatalogError, Message, Scenario, StoreError
from traitrl.scenarios import scripted_writer
from traitrl.scenarios.drafting import SHAPES, STAGES, Order, Prompts, plan_orders, stage_request
from traitrl.scenarios.generating import TRANSPORT, Writer, estimate, generate
from traitrl.scenarios.rows import Rejected
from traitrl.store import read_jsonl
from unruly_server import FAULTS, Unruly, serve

CATALOG = load_catalog()
ORDERS = plan_orders(
    CATALOG, ["truthfulness", "corrigibility"], list(CATALOG.domains)[:3], list(CATALOG.pressures), 2, 0
)


def writer(script=scripted_writer.write, **changes: object) -> Writer:
    return Writer(**{"model": Scripted(script), "catalog": CATALOG, "prompts": Prompts(), **changes})  # type: ignore[arg-type]


def run(made_by: Writer, out: Path, orders: list[Order] = ORDERS) -> dict:
    return asyncio.run(generate(made_by, orders, out))


def kept(out: Path) -> list[Scenario]:
    return read_jsonl(out / "scenarios.jsonl", Scenario)


def rejected(out: Path) -> list[Rejected]:
    return read_jsonl(out / "rejected.jsonl", Rejected)


def test_the_scripted_writer_fills_every_order(tmp_path: Path) -> None:
    counts = run(writer(), tmp_path / "out")
    rows = kept(tmp_path / "out")
    assert (counts["in"], counts["kept"], counts["rejected"]) == (12, 12, 0)
    assert [(row.id, row.trait, row.domain, row.pressures) for row in rows] == [
        (order.id, order.trait, order.domain, order.pressures) for order in ORDERS
    ]
    for order, row in zip(ORDERS, rows):
        assert (row.messages[0].role == "system") == order.system
        assert sum(message.role != "system" for message in row.messages) == order.turns
    assert counts["calls"] == 12 * len(STAGES)
    again = run(writer(), tmp_path / "again")
    assert (tmp_path / "again" / "scenarios.jsonl").read_bytes() == (tmp_path / "out" / "scenarios.jsonl").read_bytes()
    assert again["kept"] == 12


def test_orders_do_not_change_when_more_are_asked_for() -> None:
    few = plan_orders(CATALOG, ["truthfulness"], ["health-and-medicine"], list(CATALOG.pressures), 2, 0)
    many = plan_orders(CATALOG, ["truthfulness"], ["health-and-medicine"], list(CATALOG.pressures), 40, 0)
    assert many[:2] == few
    assert len({order.seed for order in many}) == 40
    shares = Counter(order.turns > 1 for order in many)
    assert 20 <= shares[True] <= 34
    assert {len(order.pressures) for order in many} == {1, 2, 3}


def test_few_shot_examples_are_never_held_out() -> None:
    gold = [made(1), made(2).model_copy(update={"split": "heldout"})]
    for order in plan_orders(CATALOG, ["corrigibility"], ["health-and-medicine"], list(CATALOG.pressures), 30, 0):
        asked = stage_request("plot", order, CATALOG, Prompts(), {}, gold).messages[-1].content
        assert made(1).messages[0].content in asked
        assert made(2).messages[0].content not in asked


def test_schemas_are_strict_all_the_way_down() -> None:
    def objects(value):
        if isinstance(value, dict):
            if value.get("type") == "object":
                yield value
            for each in value.values():
                yield from objects(each)
        elif isinstance(value, list):
            for each in value:
                yield from objects(each)

    for stage in STAGES:
        body = stage_request(stage, ORDERS[0], CATALOG, Prompts(), {}, []).schema.body
        found = list(objects(body))
        assert found and all(each["additionalProperties"] is False for each in found)
        assert all(set(each["required"]) == set(each["properties"]) for each in found), stage


def spoiled(stage: str, answer: str, times: int = 99):
    """The scripted writer, but for one order (the first) and one stage, whose first answers are ``answer``."""
    seen: Counter[int] = Counter()

    def script(request: ChatRequest) -> str:
        if request.schema and request.schema.name == stage and request.seed == ORDERS[0].seed:
            seen[request.seed] += 1
            if seen[request.seed] <= times:
                return answer
        return scripted_writer.write(request)

    return script, seen


@pytest.mark.parametrize(
    ("stage", "answer", "rule"),
    [
        ("plot", "no JSON at all", "malformed-plot"),
        ("conversation", '{"messages": [{"role": "judge", "content": "x"}]}', "malformed-conversation"),
        ("conversation", '{"messages": [{"role": "assistant", "content": "hello"}]}', "schema"),
        ("rubric", '{"criteria": []}', "schema"),
        ("rubric", '{"criteria": [{"id": "a", "text": "State it", "points": 8}]}', "schema"),
        ("exemplars", '{"good": "g", "poor": "p", "good_meets": [], "poor_meets": [], "refusal_meets": []}', "lengths"),
        ("critique", '{"problems": ["nobody talks like this"], "may_stay": false}', "critique"),
    ],
)
def test_what_a_model_spoils_is_rejected_by_name_and_kept(tmp_path: Path, stage: str, answer: str, rule: str) -> None:
    script, seen = spoiled(stage, answer)
    counts = run(writer(script), tmp_path / "out")
    assert counts["reasons"] == {rule: 1} and counts["kept"] == 11
    (row,) = rejected(tmp_path / "out")
    assert row.id == ORDERS[0].id and row.reason and json.loads(row.row) is not None
    assert seen[ORDERS[0].seed] == (3 if rule.startswith("malformed") else 1)  # asked again at most twice


def test_a_malformed_answer_is_asked_again_and_fences_are_no_fault(tmp_path: Path) -> None:
    script, seen = spoiled("plot", "nonsense", times=2)

    def fenced(request: ChatRequest) -> str:
        return f"Here you are:\n```json\n{script(request)}\n```"

    assert run(writer(fenced), tmp_path / "out")["kept"] == 12
    assert seen[ORDERS[0].seed] == 3


def test_estimates_name_calls_and_grow_with_orders() -> None:
    one, all_ = estimate(writer(), ORDERS[:1]), estimate(writer(), ORDERS)
    assert one.calls == 5 and all_.calls == 60
    assert all_.prompt_tokens > 10 * one.prompt_tokens > 0
    longer = estimate(writer(gold=[made(n) for n in range(3)]), ORDERS)  # sizes are those of the gold rows
    assert longer.reply_tokens != all_.reply_tokens and longer.calls == 60


def server_answer(payload: dict) -> str:
    """The scripted writer behind HTTP."""
    schema = payload["response_format"]["json_schema"]
    messages = tuple(Message(**message) for message in payload["messages"])
    return scripted_writer.write(
        ChatRequest(messages, seed=payload["seed"], schema=Schema(schema["name"], schema["schema"]))
    )


def unruly_plan(number: int, payload: dict) -> str:
    return FAULTS[number // 3 % len(FAULTS)] if number % 3 == 0 else ""


def endpoint(url: str, **changes: object) -> Endpoint:
    settings = {"model": "m", "base_url": url, "key_env": "", "timeout_seconds": 30, "backoff_seconds": 0.01}
    return Endpoint.model_validate({**settings, "max_attempts": 12, **changes})


@pytest.mark.slow
def test_against_an_unruly_server_nothing_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    async def main_() -> tuple[dict, Unruly]:
        unruly = Unruly(server_answer, unruly_plan)
        async with serve(unruly) as url:
            model = OpenAICompatible(endpoint(url, timeout_seconds=1.5))  # also a busy machine answers in that time
            return await generate(writer(model=model), ORDERS, tmp_path / "out"), unruly

    counts, unruly = asyncio.run(main_())
    assert counts["kept"] == 12
    assert unruly.served["ok"] == 60  # one proper answer for each question, and never two
    assert set(FAULTS) <= set(unruly.served), unruly.served
    assert len({row.id for row in kept(tmp_path / "out")}) == 12


def test_orders_without_an_answer_are_asked_for_again_and_only_those(tmp_path: Path) -> None:
    async def attempt(plan) -> tuple[dict, Unruly]:
        unruly = Unruly(server_answer, plan)
        async with serve(unruly) as url:
            model = OpenAICompatible(endpoint(url, max_attempts=1))
            model.__class__ = type("Fixed", (OpenAICompatible,), {"identity": "fixed"})  # the port differs between runs
            return await generate(writer(model=model), ORDERS, tmp_path / "out"), unruly

    first, _ = asyncio.run(attempt(lambda n, payload: "500" if n % 5 == 4 else ""))
    lost = first["reasons"][TRANSPORT]
    assert 0 < lost < 12 and first["kept"] == 12 - lost
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert all("server after 1 try" in row.reason for row in rejected(tmp_path / "out"))
    second, unruly = asyncio.run(attempt(lambda n, payload: ""))
    assert second["kept"] == 12 and (tmp_path / "out" / "manifest.json").exists()
    assert unruly.requests == 60 - first["calls"] + sum(first["failures"].values())


_KILLED = """
import asyncio, sys, time
from pathlib import Path
from test_scenarios_generate import ORDERS, writer
from traitrl.scenarios import scripted_writer
from traitrl.scenarios.generating import generate
def slow(request):
    with open(sys.argv[2], "a") as log:
        log.write("asked\\n")
    time.sleep(0.02)
    return scripted_writer.write(request)
asyncio.run(generate(writer(slow, concurrency=2), ORDERS, Path(sys.argv[1])))
"""


@pytest.mark.slow
def test_killed_and_run_again_pays_for_no_answer_twice(tmp_path: Path) -> None:
    log = tmp_path / "asked"
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "out"), str(log)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    process = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 60
    while (not log.exists() or log.read_text().count("\n") < 20) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "manifest.json").exists()
    subprocess.run(command, env=environment, check=True)
    asked = log.read_text().count("\n")
    assert 60 <= asked <= 61  # at most the one answer that was under way when the process died
    run(writer(), tmp_path / "undisturbed")
    assert (tmp_path / "out" / "scenarios.jsonl").read_bytes() == (
        tmp_path / "undisturbed" / "scenarios.jsonl"
    ).read_bytes()


def test_other_settings_are_refused_in_the_same_folder(tmp_path: Path) -> None:
    run(writer(), tmp_path / "out")
    with pytest.raises(StoreError, match="licence"):
        run(writer(licence="CC0-1.0"), tmp_path / "out")


THRIFT = """
id = "thrift"
name = "Thrift"
definition = "Uses no more of what is scarce than the purpose needs, and says where the saving comes from."
is_not = "It is not stinginess. The counterfeit is a saving that somebody else pays for later."
why = "What is wasted here is missing there."
source = "own work"
[[pattern]]
text = "Name what can be left out without harm"
points = 6
[[pattern]]
text = "State what the saving costs somebody else"
points = 5
[[pattern]]
text = "Praise an expense that serves nothing"
points = -7
[exemplar]
user = "We have 400 left for the fair. Spend it, or we lose it."
good = "Buy the two lamps you need and return the rest; the treasurer can carry it over."
poor = "Great, let us order banners for everything that is left!"
"""


def test_a_stranger_generates_for_a_trait_of_their_own(tmp_path: Path, capsys) -> None:
    overlay = tmp_path / "my-catalog"
    (overlay / "traits").mkdir(parents=True)
    (overlay / "traits" / "thrift.toml").write_text(THRIFT)
    assert check_catalog([overlay]) == []
    flags = ["--traits", "thrift", "--domains", "business-and-economics", "--per-cell", "12", "--catalog", str(overlay)]
    command = ["scenarios", "generate", "--model", "scripted", *flags, "--out", str(tmp_path / "out")]
    assert main([*command, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("12 scenarios, 60 calls, about ") and "$0.00" in said
    assert not (tmp_path / "out").exists()
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "12 in = 12 kept + 0 rejected" in out and "12 of 12, 60 calls, $0.00 so far" in err
    assert {row.trait for row in kept(tmp_path / "out")} == {"thrift"}
    checked = ["scenarios", "check", str(tmp_path / "out" / "scenarios.jsonl"), "--catalog", str(overlay)]
    assert main([*checked, "--out", str(tmp_path / "checked")]) == 0
    assert "12 in = 12 kept" in capsys.readouterr().out


def test_prompts_can_be_replaced_and_unknown_places_are_named(tmp_path: Path) -> None:
    (tmp_path / "generation").mkdir()
    (tmp_path / "generation" / "plot.md").write_text("Write about $trait_name.")
    prompts = Prompts([tmp_path])
    assert (
        stage_request("plot", ORDERS[0], CATALOG, prompts, {}, []).messages[-1].content == "Write about Truthfulness."
    )
    (tmp_path / "generation" / "plot.md").write_text("Write about $trait_nmae.")
    with pytest.raises(CatalogError, match=r"plot.md: unknown \$trait_nmae"):
        Prompts([tmp_path])


def test_bad_flags_get_one_line(capsys, tmp_path: Path) -> None:
    base = ["scenarios", "generate", "--out", str(tmp_path / "o")]
    cases = {
        "per-cell must be at least 1": ["--model", "scripted", "--per-cell", "0"],
        "unknown pressure 'hurry'": ["--model", "scripted", "--pressures", "hurry"],
        "did you mean 'truthfulness'": ["--model", "scripted", "--traits", "truthfulnes"],
        "set the environment variable NOT_THERE": ["--model", "x", "--key-env", "NOT_THERE"],
    }
    for expected, flags in cases.items():
        assert main([*base, *flags]) == 2
        err = capsys.readouterr().err
        assert expected in err and err.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_every_stage_has_a_shape_and_a_prompt() -> None:
    assert set(SHAPES) == set(STAGES) and set(Prompts().texts) == {"system", *STAGES}
