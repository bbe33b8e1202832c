"""The path of a study, in order: world, scenarios, judges, training, evals, persistence, analysis, report. Files to files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from traitrl.analysis.config import AnalysisConfig
from traitrl.catalog import Catalog, load_catalog
from traitrl.core import ConfigError, Frozen, first_complaint, nearest
from traitrl.evals.run import EvalConfig, EvalJob, run_evals
from traitrl.judging import close_judges
from traitrl.persistence.run import Missing, PersistJob, check_apart, persist
from traitrl.scenarios import freeze_scenarios
from traitrl.store import Claim, StageFolder, digest_file, exclusive, read_json
from traitrl.study.auditing import ROLES, Audited, audit_judges
from traitrl.study.config import Experiment, StudyConfig
from traitrl.study.judges import Judges, study_judges
from traitrl.study.persisting import attack_facts, plan_persistence, prompt_attacks, write_missing
from traitrl.study.reporting import report
from traitrl.training.launch.local import Report, run_jobs
from traitrl.training.run import TrainingJob, run_training

ANSWERS = "answers.sqlite"  # what judges behind HTTP have said, kept beside the stages


class Run(Frozen):
    """One arm of one experiment with one seed: training, evaluation of its checkpoints and attacks, done by one worker."""

    training: TrainingJob
    evals: EvalJob  # a template: model, step and folder are set for each checkpoint
    persistence: PersistJob | None = None  # a template as well, for the last checkpoint
    curve_items: int
    judges: Judges
    force: bool

    @property
    def label(self) -> str:
        """Experiment, arm and seed, for people."""
        return f"{self.training.experiment} / {self.training.arm.id} / seed {self.training.seed}"


def run_study(
    study: StudyConfig, out: Path, on_event: Report, *, overlays: Sequence[Path] = (), force: bool = False
) -> Path:
    """Run or continue a study in ``out``; returns the report's page. Only one process may do so at a time."""
    with exclusive(out):
        catalog = load_catalog(tuple(overlays))
        resolve = world_files(study, out / "0-world")
        runs = plan_runs(study, catalog, resolve, out, overlays=overlays, force=force)
        on_event({"kind": "plan", "runs": [run.label for run in runs]})
        audited = audit(study, runs, out, on_event, force=force)
        missing = run_jobs(execute_run, longest_first(runs), study.workers, on_event)
        if study.persistence is not None:
            for row in write_missing(out / "4-persistence", chain.from_iterable(missing)):
                on_event({"kind": "missing", **row.model_dump()})
        on_event({"kind": "stage", "stage": "analysis"})
        analysis = analyse(study, catalog, resolve, out, force=force)
        on_event({"kind": "stage", "stage": "report"})
        return report(study, runs, audited, analysis, out)


def world_files(study: StudyConfig, out: Path) -> Callable[[str], str]:
    """Write the study's world, when it has one, and return the function that turns ``@name`` into a path."""
    names: dict[str, str] = {}
    if study.world is not None:
        names = load_world(study.world)(out, study.world_options)

    def resolve(value: str) -> str:
        if not value.startswith("@"):
            return value
        if value[1:] not in names:
            raise ConfigError(f"{value!r} is not provided by world {study.world!r}{nearest(value[1:], names)}")
        return names[value[1:]]

    return resolve


def load_world(name: str) -> Callable[[Path, dict[str, Any]], dict[str, str]]:
    """The function that writes a world's files and returns their names."""
    if name != "pocket":
        raise ConfigError(f"unknown world {name!r}{nearest(name, ['pocket'])}")
    from pydantic import ValidationError

    from traitrl.pocket.world import PocketSize, write_world

    def write(out: Path, options: dict[str, Any]) -> dict[str, str]:
        try:
            return write_world(out, PocketSize.model_validate(options))
        except ValidationError as error:
            raise ConfigError(f"world_options: {first_complaint(error, PocketSize)}") from error

    return write


def audit(
    study: StudyConfig, runs: Sequence[Run], out: Path, on_event: Report, *, trains: bool = True, force: bool = False
) -> list[Audited]:
    """Audit the judges of the runs; without training, the judge of the evals alone. See :mod:`traitrl.study.auditing`."""
    on_event({"kind": "stage", "stage": "audit of the judges"})
    return audit_judges(
        runs[0].judges,
        ROLES if trains else ("evals",),
        study.audit_replies,
        runs[0].training.scenarios,
        out / "judges",
        lambda judge: on_event({"kind": "unaudited", "judge": judge.judge, "reason": judge.reason}),
        force=force,
    )


def plan_runs(
    study: StudyConfig,
    catalog: Catalog,
    resolve: Callable[[str], str],
    out: Path,
    *,
    overlays: Sequence[Path] = (),
    force: bool = False,
) -> list[Run]:
    """Every run of the study, with all names resolved; raises before anything is trained when one does not exist."""
    judges = study_judges(study, resolve, overlays, out / ANSWERS)
    traits, domains = catalog.resolve_traits("all"), catalog.resolve_domains("all")
    scenarios = freeze_scenarios(Path(resolve(study.scenarios)), out / "1-scenarios", traits, domains, force=force)
    phrases = read_json(Path(resolve(study.refusals)))["phrases"] if study.refusals else catalog.refusals
    prompt = prompt_attacks(study.persistence, catalog, resolve) if study.persistence else ()
    runs: list[Run] = []
    for experiment, arm_id, seed in grid(study):
        arm = catalog.arm(arm_id)
        cell = Path(experiment.id) / arm_id / str(seed)
        training = TrainingJob(
            experiment=experiment.id,
            arm=arm,
            seed=seed,
            model=resolve(experiment.model),
            scenarios=scenarios,
            standard=Path(resolve(study.standard)),
            generic_rubrics={name: Path(resolve(path)) for name, path in study.rubrics.items()},
            refusal_phrases=tuple(phrases),
            traits=catalog.resolve_traits(arm.traits),
            domains=catalog.arm_domains(arm_id),
            config=study.training,
            engine=study.engine,
            judge=judges.training.identity(judges.overlays),
            out=out / "2-training" / cell,
        )
        evals = _eval_template(study, catalog, resolve, training, overlays, out / "3-evals" / cell)
        runs.append(
            Run(
                training=training,
                evals=evals,
                persistence=plan_persistence(
                    study, prompt, resolve, training, evals, out / "4-persistence" / cell, overlays
                ),
                curve_items=study.evals.curve_items,
                judges=judges,
                force=force,
            )
        )
    for job in {run.training.experiment: run.persistence for run in runs}.values():
        if job is not None:
            check_apart(job)  # each run looks again; but here nothing has been trained in vain
    return runs


def _eval_template(
    study: StudyConfig,
    catalog: Catalog,
    resolve: Callable[[str], str],
    training: TrainingJob,
    overlays: Sequence[Path],
    out: Path,
) -> EvalJob:
    section = study.evals
    capability = {spec.id: spec for spec in catalog.suite("capability")}
    for name in section.capability:
        if name not in capability:
            raise ConfigError(f"evals.capability: unknown row {name!r}{nearest(name, capability)}")
    suite = catalog.suite(section.suite)
    for name in section.skip:
        if name not in {spec.id for spec in suite}:
            raise ConfigError(f"evals.skip: unknown row {name!r}{nearest(name, [spec.id for spec in suite])}")
    return EvalJob(
        experiment=training.experiment,
        arm=training.arm.id,
        seed=training.seed,
        step=0,
        model=training.model,
        suite=tuple(spec for spec in suite if spec.id not in section.skip),
        capability=tuple(capability[name] for name in section.capability),
        items=Path(resolve(section.items)),
        heldout=training.scenarios,
        heldout_traits=catalog.resolve_traits(section.heldout_traits),
        refusal_phrases=training.refusal_phrases,
        judge=(study.eval_judge or study.judge).identity(overlays),
        config=EvalConfig.model_validate(section.model_dump(include=set(EvalConfig.model_fields))),
        out=out,
    )


def grid(study: StudyConfig) -> Iterator[tuple[Experiment, str, int]]:
    """(experiment, arm, seed) of every run."""
    return (
        (experiment, arm, seed) for seed in study.seeds for experiment in study.experiment for arm in experiment.arms
    )


def longest_first(runs: Sequence[Run]) -> list[Run]:
    """Runs that train before runs that do not, so that no worker is left with a long one at the end."""
    return sorted(runs, key=lambda run: not run.training.arm.train)


def execute_run(run: Run, report: Report) -> tuple[Missing, ...]:
    """Train, evaluate every checkpoint, then attack the last; called in a worker process. Returns what could not be run.

    ``report`` takes progress events.
    """
    judge, eval_judge, watch = run.judges.make()

    def tell(stage: str, done: int, total: int) -> None:
        report({"kind": "progress", "run": run.label, "stage": stage, "done": done, "total": total})

    finished = run_training(
        run.training,
        judge,
        lambda step, steps: tell("training", step, steps),
        watch_scorer=watch,
        force=run.force,
    )
    last = finished.checkpoints[-1][0]
    for step, model in finished.checkpoints:
        limit = 0 if step == last else run.curve_items
        if limit or step == last:
            job = run.evals.at(step, model, limit)
            run_evals(job, eval_judge, partial(tell, job.checkpoint), force=run.force)
    missing: tuple[Missing, ...] = ()
    if run.persistence is not None:
        missing = persist(run.persistence.on(*finished.checkpoints[-1]), eval_judge, tell, force=run.force)
    close_judges(judge, eval_judge, watch)
    report({"kind": "finished", "run": run.label})
    return missing


def analyse(
    study: StudyConfig, catalog: Catalog, resolve: Callable[[str], str], out: Path, *, force: bool = False
) -> Path:
    """Records to estimates, contrasts and the summary."""
    files = sorted((out / "3-evals").glob("*/*/*/*/records.parquet"))
    if study.persistence is not None:
        files += sorted((out / "4-persistence").glob("*/*/*/*/*/records.parquet"))
    covariates = resolve(study.analysis.covariates) if study.analysis.covariates else None
    inputs = {str(path.relative_to(out)): digest_file(path) for path in files}
    if covariates:
        inputs["covariates"] = digest_file(Path(covariates))
    prompt = prompt_attacks(study.persistence, catalog, resolve) if study.persistence else ()
    asked = study.analysis.model_copy(update={"attacks": attack_facts(study, prompt)})
    settings = asked.model_dump(mode="json", exclude={"covariates"})
    folder = StageFolder(out / "5-analysis", Claim(stage="analysis", config=settings, inputs=inputs))
    # More records than before, say of further seeds: all are analysed anew, and nothing is lost with the old tables.
    if not folder.is_done(force=force or folder.has_same_settings):
        from traitrl.analysis.run import run_analysis

        started = time.monotonic()
        config = AnalysisConfig.model_validate({**settings, "covariates": covariates})
        run_analysis(files, folder.path, config)
        seconds = round(time.monotonic() - started, 3)
        made = [path.name for path in folder.path.iterdir() if path.name not in ("stage.json", "manifest.json")]
        folder.finish(made, seeds=study.seeds, wall_seconds=seconds)
    return folder.path
