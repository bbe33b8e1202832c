"""The decontaminate stage: rows that share a run of words with an eval whose data are at hand are rejected by its name.

At hand are files given by the user, and the text that the installed ``inspect_evals`` package carries for a row's task; most of
its tasks fetch their data when they run. The report names every eval of the suite, also those that could not be looked at.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from traitrl.core import ConfigError, EvalSpec
from traitrl.scenarios.rows import COUNTS, Sorter, read_lines
from traitrl.scenarios.rules import words
from traitrl.scenarios.similarity import runs
from traitrl.store import Claim, StageFolder, clear_os_errors, digest_file, read_json, write_json_atomic

RUN_WORDS = 8
REPORT = "decontamination.json"
_DATA_SUFFIXES = frozenset((".jsonl", ".json", ".csv", ".tsv", ".txt", ".md", ".yaml", ".yml", ".toml"))


def decontaminate_scenarios(
    source: Path,
    out: Path,
    suite: Sequence[EvalSpec],
    against: Sequence[Path] = (),
    *,
    run_words: int = RUN_WORDS,
    force: bool = False,
) -> dict[str, Any]:
    """Reject rows whose conversation shares ``run_words`` words in a row with an eval; returns the counts.

    ``against`` are files or folders of evals: JSON or JSON lines (every string in them counts; rows with ``suite_id`` are
    filed under it) or plain text.
    """
    if run_words < 4:
        raise ConfigError(f"runs of {run_words} words are shared by chance; use 4 or more")
    files = dict(_named_files(suite, against))
    inputs = {"source": digest_file(source), **{name: digest_file(path) for name, path in files.items()}}
    config = {"run_words": run_words, "suite": [spec.id for spec in suite]}
    folder = StageFolder(out, Claim(stage="scenarios-decontaminate", config=config, inputs=inputs))
    if folder.is_done(force=force):
        return read_json(out / COUNTS)
    index: dict[str, str] = {}
    compared: dict[str, int] = {}
    for name, path in files.items():
        for eval_id, text in _texts(path, name.split("/")[0]):
            compared[eval_id] = compared.get(eval_id, 0) + 1
            for run in _full_runs(words(text), run_words):
                index.setdefault(run, eval_id)
    missing = [spec.id for spec in suite if spec.id not in compared]
    write_json_atomic(out / REPORT, {"texts_compared": compared, "not_at_hand": missing})
    rows_in = 0
    with Sorter(folder) as sorter:
        for line in read_lines(source):
            rows_in += 1
            if line.row is None:
                sorter.reject(line.rejected("schema", line.complaint))
                continue
            shared = _first_shared((message.content for message in line.row.messages), index, run_words)
            if shared:
                sorter.reject(line.rejected("contaminated", f"shares {shared!r} with eval {index[shared]}"))
            else:
                sorter.keep(line.raw)
        more = {"evals_compared": len(compared), "evals_not_at_hand": len(missing)}
        return sorter.finish(rows_in, more, [REPORT])


def _full_runs(tokens: list[str], size: int) -> set[str]:
    return runs(tokens, size) if len(tokens) >= size else set()


def _first_shared(texts: Iterable[str], index: dict[str, str], size: int) -> str | None:
    found = [run for text in texts for run in _full_runs(words(text), size) if run in index]
    return min(found) if found else None


def _named_files(suite: Sequence[EvalSpec], against: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Files to compare with, under ``<eval or file name>/<path>``."""
    for path in against:
        if not path.exists():
            raise ConfigError(f"{path} does not exist; give files or folders of eval data")
        inside = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        for each in inside:
            if each.suffix in _DATA_SUFFIXES:
                yield f"{each.stem}/{each}", each
    package = importlib.util.find_spec("inspect_evals")
    root = Path(package.origin).parent if package and package.origin else None
    for spec in suite:
        task = spec.task.removeprefix("inspect_evals/").split("/")[0]
        if root and spec.task.startswith("inspect_evals/") and (root / task).is_dir():
            for each in sorted((root / task).rglob("*")):
                # Configuration and manuals stand beside the data; only prompts and items are texts of the eval.
                if each.suffix in _DATA_SUFFIXES and each.name not in ("eval.yaml", "README.md"):
                    yield f"{spec.id}/{each.relative_to(root)}", each


def _texts(path: Path, name: str) -> Iterator[tuple[str, str]]:
    """Every text of an eval file with the eval it belongs to."""
    with clear_os_errors(path, "read"):
        content = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".jsonl":
        for line in content.splitlines():
            if line.strip():
                yield from _json_texts(line, name)
    elif path.suffix == ".json":
        yield from _json_texts(content, name)
    else:
        yield name, content


def _json_texts(text: str, name: str) -> Iterator[tuple[str, str]]:
    try:
        data = json.loads(text)
    except ValueError:
        yield name, text
        return
    eval_id = str(data["suite_id"]) if isinstance(data, dict) and "suite_id" in data else name
    for each in _strings(data):
        yield eval_id, each


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
