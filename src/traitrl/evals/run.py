"""Evaluate one checkpoint: the suite's items through Inspect, the log kept, and one record per graded answer."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from traitrl.core import (
    MAX_UNGRADED_SHARE,
    AttackPart,
    EvalError,
    EvalItem,
    EvalSpec,
    Frozen,
    Record,
    Scenario,
    Split,
    attack_transform,
    count_grades,
)
from traitrl.judging import Limited, RefusalRule, Scorer
from traitrl.store import Claim, Row, StageFolder, clear_os_errors, digest_file, read_jsonl
from traitrl.weights import check_weights

if TYPE_CHECKING:
    from traitrl.evals.items import GradedReplies

RECORDS = "records.parquet"
_ADVICE = (
    "look at the judge and where it answers, give it more time (timeout_seconds) or fewer questions at once (concurrency), "
    "or raise max_ungraded_share under [evals]; then run again: answers that were given are kept"
)


class EvalConfig(Frozen):
    """How answers are sampled. Tokens count the reply; ``temperature`` 0 decodes greedily."""

    max_reply_tokens: int = 48
    temperature: float = 1.0
    batch_size: int = 128
    max_ungraded_share: float = Field(
        default=MAX_UNGRADED_SHARE, ge=0.0, le=1.0, description="past this an evaluation stops"
    )


class EvalJob(Frozen):
    """Everything that determines the evaluation of one checkpoint. ``limit`` keeps the first items of each row; 0 keeps all.

    An evaluation under attack names it with its strength in every record. ``prefix`` is what a prompt attack puts before each
    conversation; it is empty for tuning attacks, which are in the weights. The judge sees the items as they are without
    attack, unless ``judge_sees_attack``.
    """

    experiment: str
    arm: str
    seed: int
    step: int
    model: str
    suite: tuple[EvalSpec, ...]
    capability: tuple[EvalSpec, ...] = ()
    items: Path
    heldout: Path | None = None
    heldout_traits: tuple[str, ...] = ()
    refusal_phrases: tuple[str, ...]
    judge: str = "rules"
    limit: int = 0
    config: EvalConfig
    attack: str = "none"
    strength: float = 0.0
    prefix: tuple[AttackPart, ...] = ()
    judge_sees_attack: bool = False
    out: Path

    @property
    def checkpoint(self) -> str:
        """The checkpoint's folder name."""
        return f"step-{self.step:06d}"

    def at(self, step: int, model: str, limit: int) -> EvalJob:
        """This job for another checkpoint, in a folder of its own below ``out``."""
        job = self.model_copy(update={"step": step, "model": model, "limit": limit})
        return job.model_copy(update={"out": self.out / job.checkpoint})

    @property
    def label(self) -> str:
        """What is evaluated, in a few characters: the checkpoint, or the attack with its strength."""
        return self.checkpoint if self.attack == "none" else f"{self.attack} {self.strength:g}"

    def claim(self) -> Claim:
        """The stage's identity: settings, and digests of what it reads instead of where that lies."""
        attack = {"attack", "strength", "prefix", "judge_sees_attack"} if self.attack == "none" else set[str]()
        unread = dict.fromkeys(("out", "model", "items", "heldout", *attack), True)
        # The limit decides whether there are records, not what they are: who raises it goes on in the same folder.
        settings = self.model_dump(mode="json", exclude={**unread, "config": {"max_ungraded_share"}})
        inputs = {"items": digest_file(self.items)}
        if self.heldout:
            inputs["heldout"] = digest_file(self.heldout)
        inputs |= {f"model:{name}": digest for name, digest in check_weights(self.model).items()}
        return Claim(stage="evals", config=settings, inputs=inputs)


@lru_cache(maxsize=4)
def _rows_of(path: Path, digest: str, kind: type[Row]) -> tuple[Row, ...]:
    """The rows of a file with this digest, read once: a worker asks the same items of every checkpoint."""
    return tuple(read_jsonl(path, kind))


def load_items(job: EvalJob) -> list[tuple[Split, str, EvalItem]]:
    """(split, family, item) of everything the job asks, in file order, at most ``limit`` of each row.

    Held-out scenarios reach the suite as files and become items of the row ``heldout-<trait>``. Raises :class:`EvalError`
    naming the rows of the suite that have no items: a row that is not run must not look as if it was.
    """
    splits: dict[str, tuple[Split, str]] = {spec.id: ("ood", spec.family) for spec in job.suite}
    splits |= {spec.id: ("capability", spec.family) for spec in job.capability}
    items = _rows_of(job.items, digest_file(job.items), EvalItem)
    missing = sorted(set(splits) - {item.suite_id for item in items})
    if missing:
        raise EvalError(
            f"{job.items} has no items for {', '.join(missing)}; supply them or list these rows under `skip`"
        )
    rows: list[tuple[Split, str, EvalItem]] = [(*splits[i.suite_id], i) for i in items if i.suite_id in splits]
    if job.heldout:
        held = [
            row
            for row in _rows_of(job.heldout, digest_file(job.heldout), Scenario)
            if row.split == "heldout" and row.trait in job.heldout_traits
        ]
        rows.extend(("heldout", "trait", heldout_item(row)) for row in held)
    kept: dict[str, int] = defaultdict(int)
    chosen: list[tuple[Split, str, EvalItem]] = []
    for split, family, item in rows:
        kept[item.suite_id] += 1
        if not job.limit or kept[item.suite_id] <= job.limit:
            chosen.append((split, family, item))
    return chosen


def heldout_item(row: Scenario) -> EvalItem:
    """A held-out scenario as an eval item, clustered by plot and domain."""
    return EvalItem(
        id=row.id,
        suite_id=f"heldout-{row.trait}",
        domain=row.domain,
        trait=row.trait,
        messages=row.messages,
        rubric=row.rubric,
        cluster=f"{row.plot}:{row.domain}",
    )


def run_evals(job: EvalJob, judge: Scorer, on_answer: Callable[[int, int], None], *, force: bool = False) -> Path:
    """Evaluate one checkpoint into ``job.out`` unless it is already there; returns the path of its records.

    Raises :class:`EvalError` without leaving records when more than ``max_ungraded_share`` of the replies are ungraded, as
    soon as that is certain. Replies that the judge does not apply to are counted, but are no failures.
    """
    folder = StageFolder(job.out, job.claim())
    if folder.is_done(force=force):
        return job.out / RECORDS
    started = time.monotonic()
    rows = load_items(job)
    limited = Limited(judge, job.config.max_ungraded_share, len(rows), _ADVICE)
    graded, tokens = _run_inspect(job, [item for _, _, item in rows], limited, lambda done: on_answer(done, len(rows)))
    records = _records(job, rows, graded, judge.name)
    grades = count_grades(records)
    write_records(job.out / RECORDS, records)
    folder.finish(
        [RECORDS],
        seeds=(job.seed,),
        wall_seconds=round(time.monotonic() - started, 3),
        tokens=tokens,
        judge_calls=len(records),
        grades=grades,
    )
    return job.out / RECORDS


def _run_inspect(
    job: EvalJob, items: Sequence[EvalItem], judge: Limited, on_batch: Callable[[int], None]
) -> tuple[GradedReplies, int]:
    """One Inspect eval over all items: what was replied with its grades, and the tokens. The .eval log stays in the folder."""
    from inspect_ai import eval as inspect_eval
    from inspect_ai.model import GenerateConfig, get_model

    from traitrl.evals.collector import rare_collections
    from traitrl.evals.items import items_task
    from traitrl.evals.provider import checkpoint_id

    model = get_model(
        f"traitrl/{checkpoint_id(job.experiment, job.arm, job.seed, job.step, job.attack, job.strength)}",
        memoize=False,
        config=GenerateConfig(
            max_tokens=job.config.max_reply_tokens,
            temperature=job.config.temperature,
            seed=1_000_003 * (job.seed + 1),
            max_connections=len(items),  # all requests must be under way at once for fixed batches
        ),
        reference=job.model,
        announced=len(items),
        batch_size=job.config.batch_size,
        on_batch=on_batch,
    )
    for stale in (*job.out.glob("*.eval"), job.out / RECORDS):  # what a killed run has left
        stale.unlink(missing_ok=True)
    graded: GradedReplies = {}
    with clear_os_errors(job.out, "write logs in"), rare_collections():
        (log,) = inspect_eval(
            items_task(
                "items", items, judge, graded, attack_transform(job.prefix), judge_sees_attack=job.judge_sees_attack
            ),
            model=model,
            log_dir=str(job.out),
            log_format="eval",
            display="none",
            log_realtime=False,
            log_buffer=100,  # each new sample is compared with all that wait
            log_model_api=False,
            score_display=False,
            max_samples=len(items),
            fail_on_error=True,
        )
    cell = f"{job.label} ({job.arm}, seed {job.seed})"
    try:
        judge.check()
    except EvalError as error:
        raise EvalError(f"evaluation of {cell} stopped: {error}") from None
    answered = getattr(model.api, "answered", 0)
    if log.status != "success" or answered != len(items):
        reason = log.error.message if log.error else f"{answered} of {len(items)} items were answered"
        raise EvalError(f"evaluation of {cell} failed: {reason}; see {job.out}")
    logged = log.results.scores[0] if log.results else None
    if logged is None or (logged.scored_samples, logged.unscored_samples) != (judge.count.graded, judge.count.ungraded):
        raise EvalError(f"{job.out}: the judge gave other grades than the log holds; keep the log and report this")
    return graded, sum(model.total_tokens for model in log.stats.model_usage.values())


def _records(
    job: EvalJob, rows: Sequence[tuple[Split, str, EvalItem]], graded: GradedReplies, judge: str
) -> list[Record]:
    """One record per item, in the items' order. A rubric's score is aligned as it stands: its points carry the sign."""
    refusals = RefusalRule(job.refusal_phrases)
    records: list[Record] = []
    for split, family, item in rows:
        reply, grade = graded[item.id]
        records.append(
            Record(
                experiment=job.experiment,
                arm=job.arm,
                seed=job.seed,
                step=job.step,
                checkpoint=job.checkpoint,
                suite_id=item.suite_id,
                family=family,
                item_id=item.id,
                cluster=item.cluster,
                trait=item.trait,
                domain=item.domain,
                split=split,
                attack=job.attack,
                strength=job.strength,
                refusal=refusals.is_refusal(reply),
                score=grade.score,
                ungraded_reason=grade.ungraded_reason,
                judge=judge,
                reply=reply,
            )
        )
    return records


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Records as Parquet, atomically; equal records give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    columns = [pa.field(name, kinds[_plain_type(field.annotation)]) for name, field in Record.model_fields.items()]
    table = pa.Table.from_pylist([record.model_dump() for record in records], schema=pa.schema(columns))
    scratch = path.with_suffix(".tmp")
    with clear_os_errors(path, "write"):
        pq.write_table(table, scratch, compression="zstd")
        scratch.replace(path)


def _plain_type(annotation: Any) -> str:
    """``str`` for ``str``, ``str | None`` and literals of strings; likewise for int, float and bool."""
    text = str(annotation)
    return next((name for name in ("float", "bool", "int") if name in text), "str")
