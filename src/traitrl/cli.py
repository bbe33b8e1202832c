"""The command line: argument parsing only. Heavy imports happen inside the verbs, so that help answers at once."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
_EXAMPLES = """examples:
  traitrl study run pocket --out runs/pocket     the whole study on the embedded world, in minutes
  traitrl study run my-study.toml --out runs/me  the same for your model
  traitrl scenarios stats                        what the shipped dataset holds
  traitrl check                                  validate every data file
"""


def build_parser() -> argparse.ArgumentParser:
    """All verbs, with examples in the help of each."""
    from traitrl.verbs import data, judge, persist, scenarios, study

    parser = argparse.ArgumentParser(
        prog="traitrl",
        description="Train beneficial traits into a language model and measure whether they spread and last.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    for room in (study, scenarios, judge, persist, data):
        room.add(verbs)
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
    from traitrl.core import TraitrlError
    from traitrl.verbs import EXTRAS

    try:
        return args.run(args)
    except TraitrlError as error:
        print(f"traitrl: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in EXTRAS:
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
