"""The command line: argument parsing only. Heavy imports happen inside the verbs, so that help answers at once."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
_EXAMPLES = {
    "traitrl": """examples:
  traitrl study run pocket --out runs/pocket     the whole study on the embedded world, in minutes
  traitrl study run my-study.toml --out runs/me  the same for your model
  traitrl check                                  validate every data file
""",
    "study": """examples:
  traitrl study run pocket --out runs/pocket
  traitrl study show pocket > my-study.toml
""",
    "run": """examples:
  traitrl study run pocket --out runs/pocket
  traitrl study run pocket --out runs/pocket3 --seeds 3
  traitrl study run my-study.toml --out runs/me --catalog my-catalog
  traitrl study run my-study.toml --out runs/me --dry-run
Interrupted? The same command continues.
""",
    "show": """examples:
  traitrl study show pocket                      print the study file of the pocket study
""",
    "check": """examples:
  traitrl check                                  the shipped catalog
  traitrl check --catalog my-catalog             a catalog of your own on top of it
""",
    "catalog": """examples:
  traitrl catalog traits
  traitrl catalog suite
""",
    "pocket": """examples:
  traitrl pocket pretrain coherent --out /tmp/coherent
  traitrl pocket pretrain incoherent --out /tmp/incoherent
""",
    "pretrain": """examples:
  traitrl pocket pretrain coherent --out /tmp/coherent             rebuild a shipped prior (about 15 minutes)
  traitrl pocket pretrain coherent --out /tmp/start --steps 200    retrace only its beginning
""",
}


def _add(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str
) -> argparse.ArgumentParser:
    return subparsers.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=_EXAMPLES[name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def build_parser() -> argparse.ArgumentParser:
    """All verbs, with examples in the help of each."""
    parser = argparse.ArgumentParser(
        prog="traitrl",
        description="Train beneficial traits into a language model and measure whether they spread and last.",
        epilog=_EXAMPLES["traitrl"],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    study = _add(verbs, "study", "run a study, or print the file of a shipped one").add_subparsers(
        dest="action", required=True
    )
    run = _add(study, "run", "run or continue a study: training, evals, analysis, report")
    run.add_argument("study", help="a study file, or the name of a shipped study: pocket")
    run.add_argument("--out", type=Path, required=True, help="folder of the study")
    run.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N-1 instead of the file's")
    run.add_argument(
        "--catalog", type=Path, action="append", default=[], metavar="DIR", help="overlay a catalog of your own"
    )
    run.add_argument("--force", action="store_true", help="rebuild stages that were made by another configuration")
    run.add_argument("--dry-run", action="store_true", help="print the resolved study as JSON and stop")
    show = _add(study, "show", "print the file of a shipped study, to start your own from")
    show.add_argument("study", choices=["pocket"])
    check = _add(verbs, "check", "validate every data file; name file and line")
    check.add_argument(
        "--catalog", type=Path, action="append", default=[], metavar="DIR", help="overlay a catalog of your own"
    )
    catalog = _add(verbs, "catalog", "list what the catalog holds")
    catalog.add_argument("kind", choices=["traits", "domains", "pressures", "personas", "arms", "suite", "sets"])
    catalog.add_argument(
        "--catalog", type=Path, action="append", default=[], metavar="DIR", help="overlay a catalog of your own"
    )
    pocket = _add(verbs, "pocket", "the embedded world").add_subparsers(dest="action", required=True)
    pretrain = _add(pocket, "pretrain", "rebuild a prior of the pocket world from its recipe and seed")
    pretrain.add_argument("prior", help="its name in the recipe: coherent or incoherent")
    pretrain.add_argument("--out", type=Path, required=True, help="folder for the weights")
    pretrain.add_argument("--steps", type=int, help="stop early, on the same schedule")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns 0, or 2 with one line on standard error for anything the user can act on."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.version:
        from importlib.metadata import version

        print(f"traitrl {version('traitrl')}")
        return 0
    if args.verb is None:
        parser.print_help()
        return 0
    from traitrl import verbs
    from traitrl.core import TraitrlError

    try:
        return verbs.dispatch(args)
    except TraitrlError as error:
        print(f"traitrl: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in verbs.EXTRAS:
            print(
                f"traitrl: this needs {error.name}, which is not installed: pip install 'traitrl[all]'", file=sys.stderr
            )
            return 2
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        print(
            f"traitrl: {error.filename or 'writing'}: {error.strerror}; free space or fix permissions, then run again",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("traitrl: interrupted; the same command continues", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
