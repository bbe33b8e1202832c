"""Does it last: every arm under every attack, against its own clean score and against the baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from traitrl.analysis.attacked import PLACE, attacked_cells, missing_cells
from traitrl.analysis.blind_spots import blind_spots
from traitrl.analysis.config import AnalysisConfig, AttackFacts
from traitrl.analysis.degradation import Cells, loss_of, named, resistance_of, shared
from traitrl.analysis.doses import half_doses
from traitrl.analysis.equivalence import equivalence
from traitrl.analysis.frames import typed
from traitrl.analysis.intervals import Interval
from traitrl.analysis.multiplicity import add_verdicts
from traitrl.analysis.persistence_claims import check_claims, judge_claim
from traitrl.analysis.selectivity import asymmetry, grid_of, recovery, selectivity

_LOSS = ("clean", "attacked", "degradation", "retention", "normalised")
_RESISTANCE = ("difference", "normalised_difference", "level_difference")
_COUNTS = ("n_answers", "n_ungraded", "n_without_clean")
PERSISTENCE_COLUMNS: dict[str, str] = {
    **dict.fromkeys(("experiment", "arm", "versus", "attack", "kind", "stance"), "string"),
    "strength": "double",
    **dict.fromkeys(("split", "level", "name", "family"), "string"),
    **{f"{name}{end}": "double" for name in (*_LOSS, *_RESISTANCE) for end in ("", "_low", "_high")},
    **dict.fromkeys(("p", "q"), "double"),
    "verdict": "string",
    **dict.fromkeys(("margin", "equivalence_p", "equivalence_low", "equivalence_high"), "double"),
    "equivalence": "string",
    **dict.fromkeys(("n_evals", "n_items", "n_seeds", *_COUNTS, "n_pairs", "n_unpaired"), "int64"),
}
_FAMILY = ["experiment", "arm", "versus", "split", "level"]
_KEY = [*PLACE, "name", "arm"]
_ORDER = ["experiment", "attack", "strength", "split", "level", "name", "arm"]


class Persistence(NamedTuple):
    """``table`` has the columns of ``PERSISTENCE_COLUMNS``; ``summary`` is JSON-ready."""

    table: pd.DataFrame
    summary: dict[str, Any]


def persistence(records: pd.DataFrame, answers: pd.DataFrame, config: AnalysisConfig) -> Persistence | None:
    """Everything about attacks; None for a study without attacked records and without attacks or claims about them.

    ``records`` are all records, ``answers`` the clean ones as :func:`~traitrl.analysis.frames.prepare` gives them. Raises
    :class:`~traitrl.core.ConfigError` for a claim that names an experiment, arm or attack that does not exist. An attack that
    was asked for and not measured is no error: it is named in ``missing``, and its claims have no verdict.
    """
    if not config.attacks and not config.persistence_claims and (records["attack"] == "none").all():
        return None
    facts, alpha = config.attacks, config.alpha
    attacked = attacked_cells(records, answers)
    cells = attacked.cells
    check_claims(config, answers, set(cells["attack"]))
    table = persistence_table(cells, config)
    grid = grid_of(cells)
    summary = {
        "baseline": config.baseline,
        "equivalence_margin": config.equivalence_margin,
        "attacks": [fact.model_dump(mode="json") for fact in facts],
        "unknown_attacks": sorted(set(cells["attack"]) - {fact.id for fact in facts}),
        "claims": [judge_claim(claim, grid, config) for claim in config.persistence_claims],
        "selectivity": list(selectivity(grid, facts, config.baseline, alpha)),
        "asymmetry": list(asymmetry(grid, facts, config.baseline, alpha)),
        "half_doses": list(half_doses(table, facts, config.baseline)),
        "recovery": list(recovery(grid, facts, alpha)),
        "warnings": list(blind_spots(table)),
        "missing": list(missing_cells(cells, answers, facts)),
        "answers": int(cells["n_answers"].sum()),
        "ungraded": int((records["score"].isna() & (records["attack"] != "none")).sum()),
        "without_clean": int(cells["n_without_clean"].sum()),
        "earlier_checkpoints": attacked.earlier_checkpoints,
    }
    return Persistence(table, summary)


def persistence_table(cells: pd.DataFrame, config: AnalysisConfig) -> pd.DataFrame:
    """One row per experiment, arm, attack, strength, split and scope: all evals, in-domain and out-of-domain, family, eval.

    ``level`` says which scope (``all``, ``domain``, ``family``, ``suite_id``), ``name`` its name. Scores are in [0, 1];
    ``degradation`` is clean - attacked, ``retention`` attacked / clean, ``normalised`` the share of the room that was lost;
    ``difference`` is the baseline's degradation minus the arm's (above 0: the arm loses less), with ``p``, and ``q``
    (Benjamini-Hochberg over the rows of one experiment, arm, split and level). The ``equivalence`` columns belong to attacks
    that are neither harmful nor a recovery. Null where the data cannot say; the baseline has no difference;
    single evals (``suite_id``) have intervals of degradation and difference only.
    """
    facts = {fact.id: fact for fact in config.attacks}
    rows = [row for level, view in _views(cells, facts) for row in _rows(level, view, facts, config)]
    table = typed(rows, PERSISTENCE_COLUMNS).sort_values(_ORDER, ignore_index=True)
    return add_verdicts(table, _FAMILY, config.alpha)


def _views(cells: pd.DataFrame, facts: Mapping[str, AttackFacts]) -> Iterator[tuple[str, pd.DataFrame]]:
    """``cells`` per level with a column ``name``."""
    yield "all", cells.assign(name="all")
    families = {attack: set(fact.domain_families) for attack, fact in facts.items() if fact.domain_families}
    narrow = cells[cells["attack"].isin(families)]
    if len(narrow):
        inside = [family in families[attack] for attack, family in zip(narrow["attack"], narrow["family"])]
        yield "domain", narrow.assign(name=np.where(inside, "in-domain", "out-of-domain"))
    yield "family", cells.assign(name=cells["family"])
    yield "suite_id", cells.assign(name=cells["suite_id"])


def _rows(
    level: str, view: pd.DataFrame, facts: Mapping[str, AttackFacts], config: AnalysisConfig
) -> Iterator[dict[str, Any]]:
    """The rows of one level."""
    counts = view.groupby(_KEY).agg(**{name: (name, "sum") for name in _COUNTS}, family=("family", "first"))
    usable = view[np.isfinite(view["clean"]) & np.isfinite(view["attacked"])]
    everything = Cells.of(usable)
    where = {key: np.asarray(index, dtype=np.int64) for key, index in usable.groupby(_KEY).indices.items()}
    nothing, brief = np.array([], dtype=np.int64), level == "suite_id"
    for row in counts.reset_index().to_dict("records"):
        key = tuple(row[name] for name in _KEY)
        ours = everything.take(where.get(key, nothing))
        is_baseline = row["arm"] == config.baseline
        theirs = None if is_baseline else everything.take(where.get((*key[:-1], config.baseline), nothing))
        fact = facts.get(row["attack"])
        yield {
            **{str(name): value for name, value in row.items()},
            "versus": config.baseline,
            "kind": fact.kind if fact else "unknown",
            "stance": fact.stance if fact else "unknown",
            "level": level,
            "family": row["family"] if level in ("family", "suite_id") else "mixed",
            **named(loss_of(ours, config.alpha, brief=brief)),
            "n_evals": len(np.unique(ours.suite)),
            "n_items": len(np.unique(ours.item)),
            "n_seeds": len(np.unique(ours.seed)),
            **_against(ours, theirs, config, fact, brief=brief),
        }


def _against(
    ours: Cells, theirs: Cells | None, config: AnalysisConfig, fact: AttackFacts | None, *, brief: bool
) -> dict[str, Any]:
    """The columns that compare an arm with the baseline; empty for the baseline itself (``theirs`` None)."""
    nothing = ours.take(np.array([], dtype=np.int64))
    pair = (nothing, nothing) if theirs is None else (ours, theirs)
    found, pairs = resistance_of(*pair, config.alpha, brief=brief), len(shared(*pair)[0].item)
    difference = found["difference"]
    return {
        **named(found),
        "p": difference.p,
        "q": np.nan,
        "verdict": "none",
        **_equivalence(difference, config, fact),
        "n_pairs": pairs,
        "n_unpaired": sum(len(side.item) - pairs for side in pair),
    }


def _equivalence(difference: Interval, config: AnalysisConfig, fact: AttackFacts | None) -> dict[str, Any]:
    """The test of likeness for an attack that is known, not harmful and no recovery; nulls and ``none`` otherwise."""
    nan = float("nan")
    if fact is None or fact.stance == "harmful" or fact.recovery_of is not None:
        empty = dict.fromkeys(("margin", "equivalence_p", "equivalence_low", "equivalence_high"), nan)
        return {**empty, "equivalence": "none"}
    margin = config.equivalence_margin
    p, low, high, verdict = equivalence(difference, margin, config.alpha)
    ends = {"equivalence_p": p, "equivalence_low": low, "equivalence_high": high}
    return {"margin": margin, **ends, "equivalence": verdict}
