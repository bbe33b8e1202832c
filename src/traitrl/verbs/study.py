"""What the verbs of the command line do: each takes the parsed arguments and returns an exit code."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from traitrl.core import ConfigError

EXTRAS = frozenset(
    [
        "torch",
        "transformers",
        "trl",
        "peft",
        "datasets",
        "accelerate",
        "safetensors",
        "inspect_ai",
        "inspect_evals",
        "numpy",
        "scipy",
        "pandas",
        "pyarrow",
        "altair",
        "vl_convert",
    ]
)


def dispatch(args: argparse.Namespace) -> int:
    """Run the verb that was asked for."""
    verbs = {
        ("study", "run"): study_run,
        ("study", "show"): study_show,
        ("check", None): check,
        ("catalog", None): catalog_list,
        ("pocket", "pretrain"): pocket_pretrain,
    }
    return verbs[(args.verb, getattr(args, "action", None))](args)


def shipped_study(name: str) -> Path:
    """The file of a shipped study."""
    from traitrl import pocket

    return Path(pocket.__file__).parent / "study.toml" if name == "pocket" else Path(name)


def study_run(args: argparse.Namespace) -> int:
    """``traitrl study run``."""
    from traitrl.study.config import load_study

    study = load_study(shipped_study(args.study))
    if args.seeds is not None:
        if args.seeds < 1:
            raise ConfigError(f"--seeds must be at least 1, got {args.seeds}")
        study = study.model_copy(update={"seeds": tuple(range(args.seeds))})
    if args.dry_run:
        print(study.model_dump_json(indent=1))
        return 0
    from rich.console import Console

    from traitrl.store import read_json
    from traitrl.study.path import run_study
    from traitrl.study.progress import StudyProgress, win_table

    with StudyProgress() as progress:
        page = run_study(study, args.out.resolve(), progress.on_event, overlays=args.catalog, force=args.force)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(win_table(read_json(args.out / "5-analysis" / "summary.json")))
    print(f"report: {page}")
    return 0


def study_show(args: argparse.Namespace) -> int:
    """``traitrl study show``."""
    print(shipped_study(args.study).read_text(encoding="utf-8"), end="")
    return 0


def check(args: argparse.Namespace) -> int:
    """``traitrl check``: the catalog with its overlays, and the language of the pocket world."""
    from traitrl.catalog import check_catalog, load_catalog
    from traitrl.pocket.check import check_language

    problems = [str(problem) for problem in check_catalog(args.catalog)]
    if not problems:
        problems += check_language(load_catalog())  # the pocket language speaks of the shipped catalog, not of overlays
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
    from traitrl.core import nearest
    from traitrl.pocket.pretrain import load_recipe, pretrain

    recipe = load_recipe()
    if args.prior not in recipe.prior:
        raise ConfigError(f"unknown prior {args.prior!r}{nearest(args.prior, recipe.prior)}")
    if args.out.exists() and any(args.out.iterdir()):
        raise ConfigError(f"{args.out} is not empty; choose another folder")
    from rich.progress import Progress

    steps = args.steps or recipe.steps
    with Progress(transient=True) as progress:
        bar = progress.add_task(f"pretraining {args.prior}", total=steps)
        losses = pretrain(
            args.prior, args.out, steps=args.steps, on_step=lambda step, _: progress.update(bar, completed=step + 1)
        )
    print(f"{args.out}: {len(losses)} steps, loss {losses[0]:.3f} -> {sum(losses[-20:]) / len(losses[-20:]):.3f}")
    return 0
