"""Stage 4 of the path, planned: what each run of a study is put through after its evals, and what could not be done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from traitrl.analysis.config import AttackFacts
from traitrl.catalog import Catalog
from traitrl.chat import OpenAICompatible
from traitrl.core import Attack, ConfigError, EvalSpec, nearest
from traitrl.evals.run import EvalJob
from traitrl.judging import JudgeChoice, check_judge
from traitrl.judging.choice import RULES
from traitrl.persistence.config import AttackOnWeights, PersistenceConfig
from traitrl.persistence.prompts import known_attacks, resolve_prompt
from traitrl.persistence.run import Missing, PersistJob
from traitrl.store import digest_file, read_json, write_json_atomic
from traitrl.study.config import StudyConfig
from traitrl.training.run import TrainingJob

MISSING = "missing.json"
PromptAttacks = tuple[tuple[Attack, tuple[float, ...]], ...]
_OnWeights = TypeVar("_OnWeights", bound=AttackOnWeights)


def prompt_attacks(section: PersistenceConfig, catalog: Catalog, resolve: Callable[[str], str]) -> PromptAttacks:
    """The prompt attacks of a study with their strengths."""
    known = known_attacks(catalog, Path(resolve(section.attacks)) if section.attacks else None)
    return tuple(resolve_prompt(wanted, known) for wanted in section.prompt)


def plan_persistence(
    study: StudyConfig,
    prompt: PromptAttacks,
    resolve: Callable[[str], str],
    training: TrainingJob,
    evals: EvalJob,
    out: Path,
    overlays: Sequence[Path] = (),
) -> PersistJob | None:
    """The attacks on one run, None in a study without a persistence section. Step and model are set once they are known.

    ``overlays`` are the catalogs in which judges of attacks by RL are looked for. Raises :class:`ConfigError` for one that
    cannot be used.
    """
    if study.persistence is None:
        return None
    section = study.persistence.on(training.experiment)
    here = {wanted.id for wanted in section.prompt}
    for attack in section.rl:
        _check_usable(attack.judge, overlays, training.model)
    asked = evals.model_copy(
        update={
            "suite": _asked(section, evals.suite, evals.capability),
            "capability": tuple(spec for spec in evals.capability if spec.id in section.rows),
            "heldout": None,
            "heldout_traits": (),
            "limit": section.items_per_row,
            "judge_sees_attack": section.judge_sees_attack,
        }
    )
    return PersistJob(
        evals=asked,
        prompt=tuple((attack, strengths) for attack, strengths in prompt if attack.id in here),
        tuning=tuple(_located(attack, resolve) for attack in section.tuning),
        rl=tuple(_located(attack, resolve) for attack in section.rl),
        overlays=tuple(overlays),
        own_items=section.own_items,
        apart_from=(training.scenarios, training.standard, evals.items),
        near_duplicate=section.near_duplicate,
        engine=study.engine,
        out=out,
    )


def _check_usable(judge: JudgeChoice, overlays: Sequence[Path], model: str) -> None:
    """Raise :class:`ConfigError` for a judge that does not exist, would grade itself or lacks its key: before training."""
    check_judge(judge, overlays, [model])
    if judge.name != RULES:
        OpenAICompatible(judge.endpoint())  # connects to nothing


def _located(attack: _OnWeights, resolve: Callable[[str], str]) -> _OnWeights:
    """The attack with the path of its data; a file that the study's world has written is pinned as it was written."""
    path = resolve(attack.data)
    sha256 = attack.sha256 or digest_file(Path(path))
    return attack.model_copy(update={"data": path, "sha256": sha256})


def _asked(
    section: PersistenceConfig, suite: Sequence[EvalSpec], capability: Sequence[EvalSpec]
) -> tuple[EvalSpec, ...]:
    """The rows of the suite that are asked under attack; a name that is neither family nor row is refused."""
    families = {spec.family for spec in suite}
    ids = {spec.id for spec in (*suite, *capability)}
    for key, names, valid in (("families", section.families, families), ("rows", section.rows, ids)):
        for name in names:
            if name not in valid:
                raise ConfigError(f"persistence.{key}: the evals have no {name!r}{nearest(name, valid)}")
    return tuple(spec for spec in suite if spec.family in section.families or spec.id in section.rows)


def attack_facts(study: StudyConfig, prompt: PromptAttacks) -> tuple[AttackFacts, ...]:
    """What the analysis must know of the study's attacks; facts that the study file states itself go first."""
    section = study.persistence
    if section is None:
        return study.analysis.attacks
    stated = {fact.id for fact in study.analysis.attacks}
    domains = {wanted.id: wanted.domain_families for wanted in section.prompt}
    here = {attack.id for attack, _ in prompt} | {attack.id for attack in section.on_weights}
    facts = [
        AttackFacts(
            id=attack.id,
            title=attack.title,
            kind="prompt",
            stance=attack.stance,
            twin=attack.twin if attack.twin in here else None,
            domain_families=domains[attack.id],
        )
        for attack, _ in prompt
    ]
    facts += [
        AttackFacts(
            id=attack.id,
            title=attack.title,
            kind=attack.kind,
            stance=attack.stance,
            twin=attack.twin if attack.twin in here else None,
            domain_families=attack.domain_families,
            recovery_of=attack.after,
        )
        for attack in section.on_weights
    ]
    return (*study.analysis.attacks, *(fact for fact in facts if fact.id not in stated))


def write_missing(out: Path, missing: Iterable[Missing]) -> list[Missing]:
    """Keep the list of attacks that could not run, sorted, in ``missing.json``; an unchanged list leaves the file alone."""
    rows = sorted(missing, key=lambda row: (row.experiment, row.arm, row.seed, row.attack))
    listed = [row.model_dump(mode="json") for row in rows]
    path = out / MISSING
    if not path.exists() or read_json(path) != listed:
        write_json_atomic(path, listed)
    return rows
