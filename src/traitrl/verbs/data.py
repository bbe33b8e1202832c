"""``traitrl check``, ``traitrl catalog`` and ``traitrl pocket``: the shipped data and the embedded world."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from traitrl.verbs.parsing import Subparsers, add_catalog, add_verb

_CHECK_EXAMPLES = """  traitrl check                                  the shipped catalog
  traitrl check --catalog my-catalog             a catalog of your own on top of it"""
_CATALOG_EXAMPLES = """  traitrl catalog traits
  traitrl catalog suite"""
_POCKET_EXAMPLES = """  traitrl pocket pretrain coherent --out /tmp/coherent
  traitrl pocket pretrain incoherent --out /tmp/incoherent"""
_PRETRAIN_EXAMPLES = """  traitrl pocket pretrain coherent --out /tmp/coherent    rebuild a shipped prior
  traitrl pocket pretrain coherent --out /tmp/start --steps 200    retrace only its beginning"""
_KINDS = ["traits", "domains", "pressures", "personas", "arms", "suite", "sets"]


def add(verbs: Subparsers) -> None:
    """Add the parsers of these verbs."""
    checker = add_verb(verbs, "check", "validate every data file; name file and line", _CHECK_EXAMPLES)
    add_catalog(checker)
    checker.set_defaults(run=check)
    catalog = add_verb(verbs, "catalog", "list what the catalog holds", _CATALOG_EXAMPLES)
    catalog.add_argument("kind", choices=_KINDS)
    add_catalog(catalog)
    catalog.set_defaults(run=catalog_list)
    pocket = add_verb(verbs, "pocket", "the embedded world", _POCKET_EXAMPLES)
    actions = pocket.add_subparsers(dest="action", required=True)
    pretrain = add_verb(
        actions, "pretrain", "rebuild a prior of the pocket world from its recipe and seed", _PRETRAIN_EXAMPLES
    )
    pretrain.add_argument("prior", help="its name in the recipe: coherent or incoherent")
    pretrain.add_argument("--out", type=Path, required=True, help="folder for the weights")
    pretrain.add_argument("--steps", type=int, help="stop early, on the same schedule")
    pretrain.set_defaults(run=pocket_pretrain)


def check(args: argparse.Namespace) -> int:
    """``traitrl check``: the catalog with its overlays, the pocket language and the gold set."""
    from traitrl.catalog import check_catalog, load_catalog
    from traitrl.pocket.check import check_language
    from traitrl.scenarios.gold import check_gold

    problems = [str(problem) for problem in check_catalog(args.catalog)]
    if not problems:
        # The pocket language and the gold set speak of the shipped catalog, not of overlays.
        problems += [*check_language(load_catalog()), *map(str, check_gold(load_catalog()))]
    for problem in problems:
        print(problem)
    if problems:
        print(f"{len(problems)} problems", file=sys.stderr)
        return 2
    print("all data files are valid")
    return 0


def catalog_list(args: argparse.Namespace) -> int:
    """``traitrl catalog``."""
    from rich.console import Console
    from rich.table import Table

    from traitrl.catalog import load_catalog

    catalog = load_catalog(tuple(args.catalog))
    if args.kind == "sets":
        print(json.dumps(catalog.sets.model_dump(mode="json"), indent=1))
        return 0
    rows: list[tuple[str, str]]
    if args.kind == "suite":
        rows = [(spec.id, f"{spec.family}: {spec.description}") for spec in catalog.suite("paper53")]
    elif args.kind == "arms":
        rows = [(arm.id, arm.title) for arm in catalog.arms.values()]
    elif args.kind == "personas":
        rows = [(persona.id, persona.text) for persona in catalog.personas.values()]
    else:
        rows = [(entry.id, entry.definition) for entry in getattr(catalog, args.kind).values()]
    table = Table("id", "what it is", show_header=False, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console().print(table, highlight=False)
    return 0


def pocket_pretrain(args: argparse.Namespace) -> int:
    """``traitrl pocket pretrain``."""
    from traitrl.core import ConfigError, nearest
    from traitrl.pocket.pretrain import load_recipe, pretrain

    recipe = load_recipe()
    if args.prior not in recipe.prior:
        raise ConfigError(f"unknown prior {args.prior!r}{nearest(args.prior, recipe.prior)}")
    if args.out.exists() and any(args.out.iterdir()):
        raise ConfigError(f"{args.out} is not empty; choose another folder")
    from rich.progress import Progress

    steps = args.steps or recipe.steps(args.prior)
    with Progress(transient=True) as progress:
        bar = progress.add_task(f"pretraining {args.prior}", total=steps)
        losses = pretrain(
            args.prior, args.out, steps=args.steps, on_step=lambda step, _: progress.update(bar, completed=step + 1)
        )
    print(f"{args.out}: {len(losses)} steps, loss {losses[0]:.3f} -> {sum(losses[-20:]) / len(losses[-20:]):.3f}")
    return 0
