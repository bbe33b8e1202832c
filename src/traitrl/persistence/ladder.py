"""One tuning attack on one model: a ladder of doses, the checkpoints of a single run. Dose 0 is the model itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from traitrl.core import Frozen, TuningRow
from traitrl.persistence.config import TuningAttackConfig
from traitrl.persistence.data import in_order
from traitrl.store import Claim, StageFolder, digest_json, read_json, write_json_atomic, write_jsonl
from traitrl.training.config import TuningConfig
from traitrl.training.engines import Checkpoint, StepListener, load_engine
from traitrl.weights import check_weights

ORDER, CHECKPOINTS = "order.jsonl", "checkpoints.json"
_OUTPUTS = (ORDER, CHECKPOINTS, "metrics.jsonl", "accounting.json")


class LadderJob(Frozen):
    """Everything that determines a ladder. The arm is not in it: the same data, order and steps whatever is attacked."""

    attack: TuningAttackConfig
    seed: int
    model: str
    engine: str
    out: Path

    def claim(self, rows: Sequence[TuningRow]) -> Claim:
        """The stage's identity: settings, and digests of the rows and the start weights."""
        settings = self.attack.model_dump(mode="json", include=set(TuningConfig.model_fields) | {"id"})
        inputs = {"rows": digest_json([row.model_dump(mode="json") for row in rows])}
        inputs |= {f"model:{name}": digest for name, digest in check_weights(self.model).items()}
        return Claim(stage="tuning", config={**settings, "seed": self.seed, "engine": self.engine}, inputs=inputs)


class _Slot(Frozen):
    """Which row is asked when: ``step`` counts from 0."""

    step: int
    row_id: str


def climb(job: LadderJob, rows: Sequence[TuningRow], on_step: StepListener, *, force: bool = False) -> dict[int, str]:
    """Tune into ``job.out`` unless it is already there; returns the model reference of every dose."""
    folder = StageFolder(job.out, job.claim(rows))
    if not folder.is_done(force=force):
        started = time.monotonic()
        config, engine = job.attack.tuning(), load_engine(job.engine)
        ordered = in_order(rows, config.steps * config.rows_per_step, job.seed)
        slots = [_Slot(step=place // config.rows_per_step, row_id=row.id) for place, row in enumerate(ordered)]
        write_jsonl(job.out / ORDER, slots)
        checkpoints = engine.tune(job.model, ordered, config, job.seed, job.out, on_step)
        write_json_atomic(job.out / CHECKPOINTS, [row.model_dump() for row in checkpoints])
        weights = [
            f"{row.folder}/{path.name}" for row in checkpoints for path in (job.out / row.folder).glob("*.safetensors")
        ]
        books = read_json(job.out / "accounting.json")
        folder.finish(
            [*_OUTPUTS, *weights],
            seeds=(job.seed,),
            wall_seconds=round(time.monotonic() - started, 3),
            tokens=books["prompt_tokens"] + books["reply_tokens"],
        )
        engine.tidy(job.out)
    rows_ = [Checkpoint.model_validate(row) for row in read_json(job.out / CHECKPOINTS)]
    return {row.step: str(job.out / row.folder) for row in rows_}
