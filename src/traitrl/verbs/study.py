"""``traitrl study``: run or continue a study, or print the file of a shipped one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from traitrl.verbs.parsing import Subparsers, add_catalog, add_verb

SHIPPED = {"pocket": "study.toml", "pocket-persistence": "persistence.toml"}
_EXAMPLES = """  traitrl study run pocket --out runs/pocket
  traitrl study run pocket-persistence --out runs/persistence
  traitrl study show pocket > my-study.toml"""
_RUN_EXAMPLES = """  traitrl study run pocket --out runs/pocket
  traitrl study run pocket --out runs/pocket3 --seeds 3
  traitrl study run my-study.toml --out runs/me --catalog my-catalog
  traitrl study run my-study.toml --out runs/me --dry-run
Interrupted? The same command continues."""
_SHOW_EXAMPLES = "  traitrl study show pocket                      print the study file of the pocket study"


def add(verbs: Subparsers) -> None:
    """Add the parsers of this verb."""
    study = add_verb(verbs, "study", "run a study, or print the file of a shipped one", _EXAMPLES)
    actions = study.add_subparsers(dest="action", required=True)
    run = add_verb(actions, "run", "run or continue a study: training, evals, analysis, report", _RUN_EXAMPLES)
    run.add_argument("study", help=f"a study file, or the name of a shipped study: {', '.join(SHIPPED)}")
    run.add_argument("--out", type=Path, required=True, help="folder of the study")
    run.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N-1 instead of the file's")
    add_catalog(run)
    run.add_argument("--force", action="store_true", help="rebuild stages that were made by another configuration")
    run.add_argument("--dry-run", action="store_true", help="print the resolved study as JSON and stop")
    run.set_defaults(run=study_run)
    show = add_verb(actions, "show", "print the file of a shipped study, to start your own from", _SHOW_EXAMPLES)
    show.add_argument("study", choices=list(SHIPPED))
    show.set_defaults(run=study_show)


def shipped_study(name: str) -> Path:
    """The file of a shipped study."""
    from traitrl import pocket

    return Path(pocket.__file__).parent / SHIPPED[name] if name in SHIPPED else Path(name)


def study_run(args: argparse.Namespace) -> int:
    """``traitrl study run``."""
    from traitrl.core import ConfigError
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
    from traitrl.study.progress import StudyProgress, attack_table, win_table

    with StudyProgress() as progress:
        page = run_study(study, args.out.resolve(), progress.on_event, overlays=args.catalog, force=args.force)
    console = Console(width=None if sys.stdout.isatty() else 120)
    summary = read_json(args.out / "5-analysis" / "summary.json")
    if summary["subsets"]:
        console.print(win_table(summary))
    if attacks := attack_table(summary):
        console.print(attacks)
    print(f"report: {page}")
    return 0


def study_show(args: argparse.Namespace) -> int:
    """``traitrl study show``."""
    print(shipped_study(args.study).read_text(encoding="utf-8"), end="")
    return 0
