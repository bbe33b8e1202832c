"""Measure traitrl against bare TRL, Inspect and others and write ``docs/benchmarks.md``: ``python benchmarks/run.py``."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from judges import IN_FLIGHT, measure_judge
from measure import Effort, measure_cli, measure_evals, measure_study, measure_training, provenance, read_study
from page import NAMES, render
from pipeline import measure_scenarios

from traitrl.core import TraitrlError
from traitrl.store import read_json, write_bytes_atomic, write_json_atomic

DOCS = Path(__file__).resolve().parent.parent / "docs"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; raises ``SystemExit`` for settings that measure nothing."""
    default = Effort()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=NAMES, help="measure this section and keep the others")
    parser.add_argument("--study", type=Path, metavar="DIR", help="read a finished study instead of running one")
    parser.add_argument("--steps", type=int, default=default.steps, help="RL steps of each training run, at least 3")
    parser.add_argument("--pairs", type=int, default=default.pairs, help="rounds of each comparison")
    parser.add_argument("--limit", type=int, default=default.limit, help="items of each suite row")
    parser.add_argument(
        "--calls", type=int, default=10_000, help="timed grades of each judge run; the others make fewer"
    )
    parser.add_argument("--grades", type=int, default=100_000, help="grades of the run that memory is looked at")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000], help="sizes of the scenario files")
    parser.add_argument("--docs", type=Path, default=DOCS, metavar="DIR", help="folder of benchmarks.md and .json")
    args = parser.parse_args(argv)
    if args.steps < 3 or args.pairs < 1 or args.limit < 1:
        parser.error("--steps must be at least 3, --pairs and --limit at least 1")
    if args.calls < IN_FLIGHT or args.grades < 20 * IN_FLIGHT or min(args.rows) < 100:
        parser.error(f"--calls must be at least {IN_FLIGHT}, --grades {20 * IN_FLIGHT}, --rows 100 each")
    return args


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """One section's raw results with their provenance."""
    effort = Effort(steps=args.steps, pairs=args.pairs, limit=args.limit)
    where = provenance()
    if name == "training":
        raw = measure_training(effort, say)
    elif name == "evals":
        raw = measure_evals(effort, say)
    elif name == "study":
        raw = read_study(args.study) if args.study else measure_study(say)
    elif name == "judge":
        raw = measure_judge(args.pairs, args.calls, args.grades, say)
    elif name == "scenarios":
        raw = measure_scenarios(args.pairs, tuple(args.rows), say)
    else:
        raw = measure_cli(say)
    return {**raw, "provenance": where}


def say(line: str) -> None:
    """Progress, for whoever waits."""
    print(line, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked; the files are written after every section, so that an interruption loses one at most."""
    args = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that the process under way ends with us
    store = args.docs / "benchmarks.json"
    sections: dict[str, Any] = read_json(store) if store.exists() else {}
    try:
        for name in args.only or NAMES:
            sections[name] = measure(name, args)
            write_json_atomic(store, sections)
            write_bytes_atomic(args.docs / "benchmarks.md", render(sections).encode())
    except TraitrlError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    print(args.docs / "benchmarks.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
