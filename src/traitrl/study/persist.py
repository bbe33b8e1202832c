"""Stage 4 for models that are there already: evaluate each, attack each, compare them. No training.

The study file says what is asked and which attacks are run; its experiments and arms play no part. Each model takes the place of
an arm, the first one that of the baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from traitrl.analysis.config import AnalysisConfig
from traitrl.catalog import load_catalog
from traitrl.core import ConfigError
from traitrl.core.ids import check_id
from traitrl.store import exclusive
from traitrl.study.config import Experiment, StudyConfig
from traitrl.study.path import Run, analyse, audit, execute_run, plan_runs, world_files
from traitrl.study.persisting import write_missing
from traitrl.study.reporting import report
from traitrl.training.launch.local import Report, run_jobs

EXPERIMENT = "models"


def persist_models(
    study: StudyConfig,
    models: Mapping[str, str],
    out: Path,
    on_event: Report,
    *,
    overlays: Sequence[Path] = (),
    force: bool = False,
) -> Path:
    """Evaluate and attack every model (name to folder or hub name) into ``out``; returns the report's page.

    Raises :class:`ConfigError` for a study without a persistence section and for names that cannot name a folder.
    """
    if study.persistence is None:
        raise ConfigError(f"study {study.name!r} has no [persistence] section; add one, or use the study 'pocket'")
    study = study.model_copy(update={"persistence": study.persistence.everywhere()})
    for name in models:
        try:
            check_id(name)
        except ValueError as error:
            raise ConfigError(f"{error}; give NAME=MODEL") from error
    baseline = next(iter(models))
    with exclusive(out):
        catalog = load_catalog(tuple(overlays))
        resolve = world_files(study, out / "0-world")
        runs: list[Run] = []
        for name, reference in models.items():
            alone = Experiment(id=EXPERIMENT, title="Models as they are", model=reference, arms=("prior",))
            single = study.model_copy(
                update={"experiment": (alone,), "seeds": (0,), "analysis": AnalysisConfig(baseline=baseline)}
            )
            (run,) = plan_runs(single, catalog, resolve, out, overlays=overlays, force=force)
            runs.append(_named(run, name, out))
        on_event({"kind": "plan", "runs": [run.label for run in runs]})
        audited = audit(study, runs, out, on_event, trains=False, force=force)
        missing = run_jobs(execute_run, runs, study.workers, on_event)
        for row in write_missing(out / "4-persistence", chain.from_iterable(missing)):
            on_event({"kind": "missing", **row.model_dump()})
        on_event({"kind": "stage", "stage": "analysis"})
        compared = study.model_copy(update={"analysis": AnalysisConfig(baseline=baseline), "seeds": (0,)})
        analysis = analyse(compared, catalog, resolve, out, force=force)
        on_event({"kind": "stage", "stage": "report"})
        return report(compared, runs, audited, analysis, out)


def _named(run: Run, name: str, out: Path) -> Run:
    """The run of a model under its own name, in folders of its own."""
    cell = Path(EXPERIMENT) / name / "0"
    evals = run.evals.model_copy(update={"arm": name, "out": out / "3-evals" / cell})
    assert run.persistence is not None
    attacked = run.persistence.evals.model_copy(update={"arm": name})
    return run.model_copy(
        update={
            "training": run.training.model_copy(
                update={"arm": run.training.arm.model_copy(update={"id": name}), "out": out / "2-training" / cell}
            ),
            "evals": evals,
            "persistence": run.persistence.model_copy(update={"evals": attacked, "out": out / "4-persistence" / cell}),
        }
    )
