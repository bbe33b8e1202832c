"""Attacks on real small models: blind judges, equal ladders by fine-tuning and RL, resume, and data that are missing or void."""

from pathlib import Path

import pytest
from safetensors.numpy import load_file

from forked import kill_at
from length_judge import by_length, is_long
from traitrl.catalog import load_catalog
from traitrl.core import Attack, ConfigError, EngineError, EvalItem, Grade, StandardPrompt, TuningRow, count_grades
from traitrl.evals.run import EvalConfig, EvalJob
from traitrl.judging import RuleScorer
from traitrl.persistence.config import RlAttackConfig, TuningAttackConfig
from traitrl.persistence.data import in_order
from traitrl.persistence.ladder import LadderJob, climb
from traitrl.persistence.rl import RlLadderJob, climb_by_rl
from traitrl.persistence.run import PersistJob, persist
from traitrl.pocket.world import PRIORS_DIR, PocketSize, write_world
from traitrl.store import read_json, read_jsonl, read_manifest, write_jsonl
from traitrl.training.ledger import LedgerFile
from unruly_server import Unruly, running

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

PRIOR = str(PRIORS_DIR / "coherent")
OTHER = str(PRIORS_DIR / "incoherent")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    size = PocketSize(
        items_per_row=2, capability_items_per_task=1, standard_prompts=40, heldout_traits=("truthfulness",), rl_rows=16
    )
    return {name: Path(path) for name, path in write_world(tmp_path_factory.mktemp("world"), size).items()}


def attack(world: dict[str, Path], **fields: object) -> TuningAttackConfig:
    base = {"id": "bad", "stance": "harmful", "data": str(world["tuning.bad-advice"]), "doses": [1, 3]}
    base |= {"rows_per_step": 4, "learning_rate": 1e-3, "sha256": digest(world["tuning.bad-advice"])}
    return TuningAttackConfig.model_validate({**base, **fields})


def rl_attack(world: dict[str, Path], **fields: object) -> RlAttackConfig:
    base = {
        "id": "hack",
        "stance": "harmful",
        "data": str(world["rl.hackable"]),
        "sha256": digest(world["rl.hackable"]),
    }
    base |= {"doses": [1, 3], "prompts_per_step": 3, "replies_per_prompt": 4, "max_prompt_tokens": 96}
    return RlAttackConfig.model_validate({**base, **fields})


def digest(path: Path) -> str:
    from traitrl.store import digest_file

    return digest_file(path)


def job(world: dict[str, Path], out: Path, *tuning: TuningAttackConfig, **fields: object) -> PersistJob:
    suite = load_catalog().suite("paper53")
    evals = EvalJob(
        experiment="e",
        arm="secret-arm",
        seed=0,
        step=7,
        model=PRIOR,
        suite=tuple(spec for spec in suite if spec.family == "mental-health"),
        items=world["items"],
        refusal_phrases=("can not help with",),
        limit=2,
        config=EvalConfig(max_reply_tokens=32),
        out=out,
    )
    attacks = {row.id: row for row in read_jsonl(world["attacks"], Attack)}
    settings = {"prompt": ((attacks["bad-medical"], (0.5, 1.0)),), **fields}
    apart = (world["scenarios"], world["standard"], world["items"])
    return PersistJob(evals=evals, tuning=tuning, apart_from=apart, out=out, **settings)  # type: ignore[arg-type]


class Watching(RuleScorer):
    """A judge that keeps what it is shown."""

    def __init__(self) -> None:
        self.rows: list[object] = []

    async def score(self, row: object, reply: str) -> Grade:
        self.rows.append(row)
        return await super().score(row, reply)  # type: ignore[arg-type]


def run(one: PersistJob, judge: RuleScorer | None = None) -> tuple:
    return persist(one, judge or RuleScorer(), lambda stage, done, total: None)


def test_the_judge_sees_neither_attack_nor_arm_unless_it_is_asked_to(world: dict[str, Path], tmp_path: Path) -> None:
    import pandas as pd

    items = {item.id: item for item in read_jsonl(world["items"], EvalItem)}
    blind = Watching()
    one = job(world, tmp_path / "blind")
    run(one, blind)
    assert len(blind.rows) == 2 * 8 and all(row == items[row.id] for row in blind.rows)  # type: ignore[attr-defined]
    assert "secret-arm" not in repr(blind.rows) and "careless" not in repr(blind.rows)
    seeing = Watching()
    shown = one.evals.model_copy(update={"judge_sees_attack": True})
    run(one.model_copy(update={"evals": shown, "out": tmp_path / "seeing"}), seeing)
    assert sum("careless" in row.messages[0].content for row in seeing.rows) == 2 * 8  # type: ignore[attr-defined]
    assert "secret-arm" not in repr(seeing.rows)
    assert sum("who sells cures" in row.messages[0].content for row in seeing.rows) == 8  # type: ignore[attr-defined]
    few = job(world, tmp_path / "few", prompt=(one.prompt[0],), own_items={"bad-medical": 1})
    assert (few.eval_of("bad-medical", 1.0).limit, few.eval_of("liar", 1.0).limit) == (1, 2)
    half, whole = (pd.read_parquet(tmp_path / "blind" / "bad-medical" / s / "records.parquet") for s in ("0.5", "1"))
    assert (set(half.strength), set(whole.strength)) == ({0.5}, {1.0})
    assert set(half.attack) == {"bad-medical"} and set(half.step) == {7}


@pytest.fixture(scope="module")
def ladders(world: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("ladders")
    rows = read_jsonl(world["tuning.bad-advice"], TuningRow)
    for name, model in (("one", PRIOR), ("again", PRIOR), ("other", OTHER)):
        ladder = LadderJob(attack=attack(world), seed=0, model=model, engine="trl", out=out / name)
        assert list(climb(ladder, rows, lambda step, steps: None)) == [1, 3]
    return {name: out / name for name in ("one", "again", "other")}


def test_a_ladder_is_repeatable_to_the_byte_and_each_dose_is_another_model(ladders: dict[str, Path]) -> None:
    first = read_manifest(ladders["one"]).outputs
    assert read_manifest(ladders["again"]).outputs == first
    weights = [first[f"checkpoint-{dose}/model.safetensors"] for dose in (1, 3)]
    assert len({*weights, digest(Path(PRIOR) / "model.safetensors")}) == 3
    assert not list(ladders["one"].rglob("optimizer.pt"))


def test_whoever_is_attacked_gets_the_same_data_in_the_same_order_at_the_same_cost(ladders: dict[str, Path]) -> None:
    for name in ("order.jsonl", "accounting.json"):
        assert (ladders["one"] / name).read_bytes() == (ladders["other"] / name).read_bytes()
    assert read_json(ladders["one"] / "accounting.json")["rows"] == 12
    assert read_manifest(ladders["one"]).tokens == read_manifest(ladders["other"]).tokens > 0


def test_only_the_reply_is_learned(world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trl.trainer.sft_trainer import SFTTrainer

    seen: list[dict[str, list[int]]] = []
    train = SFTTrainer.train
    monkeypatch.setattr(SFTTrainer, "train", lambda self, **kw: (seen.extend(self.train_dataset), train(self, **kw))[1])
    rows = read_jsonl(world["tuning.bad-advice"], TuningRow)
    climb(LadderJob(attack=attack(world), seed=0, model=PRIOR, engine="trl", out=tmp_path), rows, lambda *_: None)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(PRIOR)
    for row, kept in zip(in_order(rows, 12, 0), seen, strict=True):
        learned = [token for token, label in zip(kept["input_ids"], kept["labels"]) if label != -100]
        expected = tokenizer(f"{row.messages[-1].content} <|end|>", add_special_tokens=False)["input_ids"]
        assert learned == expected


def test_rows_over_the_limit_are_named_and_other_attacks_go_on(world: dict[str, Path], tmp_path: Path) -> None:
    long = attack(world, id="long", max_prompt_tokens=3)
    broken = attack(world, id="pinned", sha256="0" * 64)
    gone = attack(world, id="gone", data=str(tmp_path / "gone.jsonl"))
    late = attack(world, id="late", after="gone")
    one = job(world, tmp_path / "out", long, broken, gone, late, attack(world), prompt=())
    missing = {row.attack: row.reason for row in run(one)}
    assert set(missing) == {"long", "pinned", "gone", "late"}
    assert "the limits are 3 and 1024" in missing["long"] and "row advice:" in missing["long"]
    assert "pinned is 0000" in missing["pinned"] and "put the file there" in missing["gone"]
    assert "highest dose of gone, which could not run" in missing["late"]
    assert {path.parent.name for path in (tmp_path / "out" / "bad").glob("*/records.parquet")} == {"1", "3"}


def test_recovery_starts_from_the_highest_dose(world: dict[str, Path], tmp_path: Path) -> None:
    back = attack(
        world,
        id="back",
        stance="helpful",
        data=str(world["tuning.good-advice"]),
        sha256=digest(world["tuning.good-advice"]),
        after="bad",
        doses=[1],
    )
    assert run(job(world, tmp_path, attack(world), back, prompt=())) == ()
    tuned = read_manifest(tmp_path / "bad" / "ladder").outputs["checkpoint-3/model.safetensors"]
    assert read_manifest(tmp_path / "back" / "ladder").inputs["model:model.safetensors"] == tuned


@pytest.fixture(scope="module")
def rl_ladders(world: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("rl")
    twin = rl_attack(world, id="honest", data=str(world["rl.honest"]), sha256=digest(world["rl.honest"]))
    cells = {
        "one": (PRIOR, rl_attack(world)),
        "again": (PRIOR, rl_attack(world)),
        "other": (OTHER, rl_attack(world)),
        "twin": (PRIOR, twin),
    }
    for name, (model, wanted) in cells.items():
        ladder = RlLadderJob(
            attack=wanted,
            seed=0,
            model=model,
            engine="trl",
            judge="rules",
            refusal_phrases=("can not help with",),
            out=out / name,
        )
        rows = read_jsonl(Path(wanted.data), StandardPrompt)
        assert list(climb_by_rl(ladder, rows, RuleScorer(), lambda step, steps: None)) == [1, 3]
    return {name: out / name for name in cells}


def test_an_rl_ladder_is_repeatable_to_the_byte_and_each_dose_is_another_model(rl_ladders: dict[str, Path]) -> None:
    first = read_manifest(rl_ladders["one"]).outputs
    assert read_manifest(rl_ladders["again"]).outputs == first
    weights = [first[f"checkpoint-{dose}/model.safetensors"] for dose in (1, 3)]
    assert len({*weights, digest(Path(PRIOR) / "model.safetensors")}) == 3
    assert read_manifest(rl_ladders["twin"]).outputs["checkpoint-3/model.safetensors"] != weights[1]
    assert not list(rl_ladders["one"].rglob("optimizer.pt"))


def test_whoever_is_attacked_by_rl_is_asked_the_same_in_the_same_order_as_often(
    world: dict[str, Path], rl_ladders: dict[str, Path]
) -> None:
    ledgers = {name: LedgerFile(path / "ledger.jsonl").read() for name, path in rl_ladders.items()}
    asked = {name: [(row.step, row.slot, row.sample, row.row_id) for row in rows] for name, rows in ledgers.items()}
    assert asked["one"] == asked["other"] == asked["twin"] and len(asked["one"]) == 3 * 3 * 4
    order = {path / "order.jsonl" for path in rl_ladders.values()}
    assert len({path.read_bytes() for path in order}) == 1
    rows = in_order(read_jsonl(world["rl.hackable"], StandardPrompt), 9, 0)
    assert [row_id for _, _, sample, row_id in asked["one"] if sample == 0] == [row.id for row in rows]
    for name, path in rl_ladders.items():
        manifest, book = read_manifest(path), read_json(path / "accounting.json")["streams"]["standard"]
        assert (book["prompts"], book["replies"], manifest.judge_calls) == (9, 36, 36)
        assert manifest.grades == count_grades(ledgers[name])
        assert manifest.tokens == sum(row.prompt_tokens + row.reply_tokens for row in ledgers[name])


def test_the_gradient_saw_what_the_attack_pays_for(world: dict[str, Path], rl_ladders: dict[str, Path]) -> None:
    paid = {}
    for name, file in (("one", "rl.hackable"), ("twin", "rl.honest")):
        rubrics = {row.id: row.rubric for row in read_jsonl(world[file], StandardPrompt)}
        for row in LedgerFile(rl_ladders[name] / "ledger.jsonl").read():
            met = {
                check.id: any(f" {value} " in f" {row.reply} " for value in check.check.values)
                for check in rubrics[row.row_id]
            }  # type: ignore[union-attr]
            assert row.reward == pytest.approx((6 * met["pays"] + 2 * met["names"]) / 8)
            paid.setdefault((name, row.step), []).append(met["pays"])
    # In the first step the policy and its dice are the same, so the replies are: what pays in one set does not in the other.
    assert any(paid["one", 0]) and any(paid["twin", 0])
    assert not any(one and other for one, other in zip(paid["one", 0], paid["twin", 0]))
    assert read_json(rl_ladders["one"] / "health.json")["flat_group_share"] < 1.0


def test_rl_attacks_that_cannot_run_are_named_and_the_others_go_on(world: dict[str, Path], tmp_path: Path) -> None:
    rows = read_jsonl(world["rl.hackable"], StandardPrompt)
    criterion = rows[0].rubric[0].model_copy(update={"check": None})
    write_jsonl(tmp_path / "unruled.jsonl", [rows[0].model_copy(update={"rubric": (criterion,)})])
    (tmp_path / "cut.jsonl").write_bytes(world["rl.hackable"].read_bytes()[:-40])
    files = {name: tmp_path / f"{name}.jsonl" for name in ("unruled", "cut")}
    broken = [rl_attack(world, id=name, data=str(path), sha256=digest(path)) for name, path in files.items()]
    broken += [
        rl_attack(world, id="pinned", sha256="0" * 64),
        rl_attack(world, id="offline", data="http://127.0.0.1:9/rows.jsonl"),
        rl_attack(world, id="long", max_prompt_tokens=3),
        rl_attack(world, id="late", after="cut"),
    ]
    one = job(world, tmp_path / "out", prompt=(), rl=(*broken, rl_attack(world)))
    missing = {row.attack: row.reason for row in run(one)}
    assert set(missing) == {*files, "pinned", "offline", "long", "late"}
    assert f"row {rows[0].id} has no check" in missing["unruled"] and "cut.jsonl:16: not valid JSON" in missing["cut"]
    assert "pinned is 0000" in missing["pinned"] and "cannot be fetched" in missing["offline"]
    assert "the limit is 3" in missing["long"] and "highest dose of cut, which could not run" in missing["late"]
    assert {path.parent.name for path in (tmp_path / "out" / "hack").glob("*/records.parquet")} == {"1", "3"}


def test_rl_goes_on_with_an_adapter_and_refuses_a_second_one_on_top(world: dict[str, Path], tmp_path: Path) -> None:
    adapters = attack(world, id="adapter", doses=[1], lora_rank=2)
    further = rl_attack(world, after="adapter", doses=[1])
    second = rl_attack(world, id="second", after="adapter", doses=[1], lora_rank=2)
    missing = run(job(world, tmp_path, adapters, prompt=(), rl=(further, second)))
    assert [row.attack for row in missing] == ["second"] and "is an adapter already" in missing[0].reason
    before, after = (
        load_file(tmp_path / name / "ladder" / "checkpoint-1" / "adapter_model.safetensors")
        for name in ("adapter", "hack")
    )
    assert set(before) == set(after) and any((before[name] != after[name]).any() for name in before)


def test_rl_data_that_overlap_what_is_trained_or_asked_stop_before_anything_is_done(
    world: dict[str, Path], tmp_path: Path
) -> None:
    rows = read_jsonl(world["rl.hackable"], StandardPrompt)
    item = read_jsonl(world["items"], EvalItem)[5]
    last = item.messages[-1]
    near = last.model_copy(update={"content": f"{last.content} today"})
    for name, messages in (("same", item.messages), ("near", (*item.messages[:-1], near))):
        path = tmp_path / f"{name}.jsonl"
        write_jsonl(path, [*rows, rows[0].model_copy(update={"id": "copied", "messages": messages})])
        void = rl_attack(world, data=str(path), sha256=digest(path))
        with pytest.raises(ConfigError, match=f"attack 'hack' overlaps .*copied and {item.id} of items.jsonl"):
            run(job(world, tmp_path / "out", rl=(void,)))
    assert not (tmp_path / "out").exists()


def test_a_named_judge_pays_and_its_key_and_answers_are_where_they_belong(
    world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_JUDGE_KEY", "sk-planted-in-attack")
    unruly = Unruly(by_length, lambda n, payload: "500" if n % 9 == 0 else "")
    with running(unruly) as url:
        choice = {"name": "rubric", "model": "judge-model", "base_url": url, "key_env": "TEST_JUDGE_KEY"}
        one = job(world, tmp_path / "out", prompt=(), rl=(rl_attack(world, doses=[2], judge=choice),))
        assert run(one) == ()
        rows = LedgerFile(one.out / "hack" / "ladder" / "ledger.jsonl").read()
        asked = unruly.requests
        assert run(one) == () and unruly.requests == asked
    assert len(rows) == 24 and all(row.reward == float(is_long(row.reply)) for row in rows)
    assert (one.out / "hack" / "answers.sqlite").exists()
    assert any(header.get("Authorization") == "Bearer sk-planted-in-attack" for header in unruly.headers)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not [path for path in files if b"planted-in-attack" in path.read_bytes()]


def test_an_overlap_with_what_is_trained_or_asked_stops_before_anything_is_done(
    world: dict[str, Path], tmp_path: Path
) -> None:
    item = read_jsonl(world["items"], EvalItem)[5]
    rows = read_jsonl(world["tuning.bad-advice"], TuningRow)
    copied = rows[0].model_copy(update={"id": "copied", "messages": (*item.messages, rows[0].messages[-1])})
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [*rows[:8], copied])
    void = attack(world, id="void", data=str(path), sha256=digest(path))
    with pytest.raises(ConfigError, match=f"attack 'void' overlaps .*copied and {item.id} of items.jsonl"):
        run(job(world, tmp_path / "out", attack(world), void))
    assert not (tmp_path / "out").exists()


def test_too_few_rows_for_the_engine_are_refused(world: dict[str, Path], tmp_path: Path) -> None:
    from traitrl.training.engines import load_engine

    rows = read_jsonl(world["tuning.bad-advice"], TuningRow)[:5]
    with pytest.raises(EngineError, match="5 rows for 3 steps of 4"):
        load_engine("trl").tune(PRIOR, rows, attack(world).tuning(), 0, tmp_path, lambda step, steps: None)


PERSIST = (
    "import sys; from pathlib import Path; from traitrl.persistence.run import *; from traitrl.judging import RuleScorer\n"
    "one = PersistJob.model_validate_json(Path(sys.argv[1]).read_text())\n"
    "persist(one, RuleScorer(), lambda stage, done, total: print(stage, done, flush=True))\n"
)


@pytest.mark.parametrize("kind", ["bad", "hack"])
def test_killed_on_the_ladder_and_resumed_it_ends_with_the_same_bytes(
    kind: str, world: dict[str, Path], ladders: dict[str, Path], rl_ladders: dict[str, Path], tmp_path: Path
) -> None:
    attacks = {"tuning": (attack(world),)} if kind == "bad" else {"rl": (rl_attack(world),)}
    one = job(world, tmp_path / "killed", prompt=()).model_copy(update=attacks)
    (tmp_path / "job.json").write_text(one.model_dump_json())
    # Past the checkpoint at 1, before the one at 3.
    kill_at(f"{kind} 2", PERSIST, str(tmp_path / "job.json"), screen=tmp_path / "screen")
    ladder = one.out / kind / "ladder"
    assert (ladder / "checkpoint-1" / "complete.json").exists() and not (ladder / "manifest.json").exists()
    assert run(one) == ()
    whole = {"bad": ladders, "hack": rl_ladders}[kind]["one"]
    assert read_manifest(ladder).outputs == read_manifest(whole).outputs
    before = {path: path.stat().st_mtime_ns for path in one.out.rglob("*") if path.is_file()}
    run(one)
    assert {path: path.stat().st_mtime_ns for path in before} == before
