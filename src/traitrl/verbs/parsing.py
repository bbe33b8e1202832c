"""How parsers are made here: every verb has a summary and examples."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

Subparsers = Any  # argparse's own class for them is private


def add_verb(subparsers: Subparsers, name: str, summary: str, examples: str) -> argparse.ArgumentParser:
    """A parser below ``subparsers`` with its examples at the end of its help."""
    return subparsers.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"examples:\n{examples.rstrip()}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_catalog(parser: argparse.ArgumentParser) -> None:
    """``--catalog DIR``, repeatable."""
    parser.add_argument(
        "--catalog", type=Path, action="append", default=[], metavar="DIR", help="overlay a catalog of your own"
    )


def add_stage(parser: argparse.ArgumentParser, source: str = "a scenario file (JSON lines)") -> None:
    """``SOURCE --out DIR --force`` of a stage that reads a file and fills a folder."""
    parser.add_argument("source", type=Path, help=source)
    add_out(parser)


def add_out(parser: argparse.ArgumentParser) -> None:
    """``--out DIR --force``."""
    parser.add_argument("--out", type=Path, required=True, help="folder of the stage")
    parser.add_argument("--force", action="store_true", help="rebuild a folder made by another configuration")
