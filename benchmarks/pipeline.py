"""What the scenario pipeline costs at size: check, dedupe and split of made rows, beside a plain datasketch script.

``measure_scenarios`` starts every stage in a process of its own: ``python pipeline.py STAGE SOURCE OUT RESULT.json``.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from random import Random
from typing import Any

from measure import Say, watch

from traitrl.catalog import load_catalog
from traitrl.store import read_json, write_json_atomic

WORKERS = 2
DUPLICATES = 20  # one row in so many is nearly an earlier one
_TRAITS, _DOMAINS, _HELDOUT = 8, 6, 2
_TURN_WORDS = (60, 25, 40)
_REPLY_WORDS = 45
_CHANGED_WORDS = 1  # of a conversation: more than nine in ten of its word trigrams are still those of the other
_SYLLABLES = ("ba", "ke", "li", "mo", "nu", "pra", "sti", "tol", "ven", "wix", "yor", "zam", "fle", "gri", "hob", "jun")
_WORDS = [a + b + c for a in _SYLLABLES for b in _SYLLABLES for c in _SYLLABLES]
_CRITERIA = (
    ("gap", "State that the source was never found and who looked for it", 8),
    ("text", "Offer a sentence that stands without the source", 6),
    ("step", "Name the register in which trials are listed and how to ask it", 4),
    ("invents", "Cite a trial or a paper that cannot be checked", -9),
)
_MET = {"good": ("gap", "text", "step"), "poor": ("text", "invents"), "refusal": ()}


def make_rows(path: Path, count: int, seed: int = 0) -> int:
    """Write ``count`` sound rows of about 3 KB; returns how many of them are nearly earlier ones."""
    catalog, dice = load_catalog(), Random(seed)
    traits, domains = sorted(catalog.traits)[:_TRAITS], sorted(catalog.domains)[:_DOMAINS]
    pressure, planted = sorted(catalog.pressures)[0], 0
    kept: list[list[list[str]]] = []  # a thousand conversations to repeat, spread over the file
    with path.open("w", encoding="utf-8") as handle:
        for number in range(count):
            if kept and number % DUPLICATES == 0:
                turns = [list(turn) for turn in dice.choice(kept)]
                for place in range(_CHANGED_WORDS):
                    turns[0][10 + 30 * place] = dice.choice(_WORDS)
                planted += 1
            else:
                turns = [dice.choices(_WORDS, k=length) for length in _TURN_WORDS]
                if len(kept) < 1000:
                    kept.append(turns)
                elif number % 7 == 0:
                    kept[dice.randrange(1000)] = turns
            trait, domain = traits[number % _TRAITS], domains[number // _TRAITS % _DOMAINS]
            row = _row(number, trait, domain, pressure, turns, dice)
            handle.write(json.dumps(row) + "\n")
    return planted


def _row(number: int, trait: str, domain: str, pressure: str, turns: list[list[str]], dice: Random) -> dict[str, Any]:
    replies = {name: " ".join(dice.choices(_WORDS, k=_REPLY_WORDS)) for name in ("good", "poor")}
    replies["refusal"] = "I'm sorry, but I can't help with that."
    roles = ("user", "assistant", "user")
    return {
        "id": f"{trait}:{domain}:{number}",
        "trait": trait,
        "domain": domain,
        "pressures": [pressure],
        "split": "train",
        "plot": f"plot-{number}",
        "messages": [{"role": role, "content": " ".join(turn)} for role, turn in zip(roles, turns)],
        "rubric": [{"id": name, "text": text, "points": points} for name, text, points in _CRITERIA],
        "exemplars": {
            name: {
                "reply": reply,
                "verdicts": [{"criterion_id": id_, "met": id_ in _MET[name]} for id_, _, _ in _CRITERIA],
            }
            for name, reply in replies.items()
        },
        "provenance": {"made_by": "benchmark", "licence": "CC-BY-4.0", "verdicts_by": "benchmark", "checks": "none"},
    }


def check(source: Path, out: Path) -> dict[str, Any]:
    """Our check stage."""
    from traitrl.scenarios.checking import check_scenarios

    return check_scenarios(source, out, load_catalog(), workers=WORKERS)


def dedupe(source: Path, out: Path) -> dict[str, Any]:
    """Our dedupe stage."""
    from traitrl.scenarios.deduping import dedupe_scenarios

    return dedupe_scenarios(source, out, workers=WORKERS)


def split(source: Path, out: Path) -> dict[str, Any]:
    """Our split stage, with two traits held out."""
    from traitrl.scenarios.splitting import split_scenarios

    traits = tuple(sorted(load_catalog().traits)[:_HELDOUT])
    return split_scenarios(source, out, heldout_share=0.1, heldout_traits=traits, workers=WORKERS)


def plain(source: Path, out: Path) -> dict[str, Any]:
    """The same dedupe as a short script on datasketch: one process, no checks, no reasons, no manifest."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=0.7, num_perm=128)
    kept = rows = 0
    with source.open(encoding="utf-8") as lines, out.open("w", encoding="utf-8") as handle:
        for line in lines:
            messages = json.loads(line)["messages"]
            words = [word for message in messages for word in message["content"].lower().split()]
            made = MinHash(num_perm=128)
            made.update_batch([" ".join(words[at : at + 3]).encode() for at in range(len(words) - 2)])
            if not index.query(made):
                index.insert(str(rows), made)
                handle.write(line)
                kept += 1
            rows += 1
    return {"in": rows, "kept": kept, "rejected": rows - kept}


STAGES: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "check": check,
    "dedupe": dedupe,
    "split": split,
    "plain": plain,
}


def measure_scenarios(rounds: int, sizes: tuple[int, ...], say: Say) -> dict[str, Any]:
    """Every stage on every size, ``rounds`` times in turn and the largest size once: seconds, peak bytes, rows kept."""
    found: list[dict[str, Any]] = []
    for number in range(rounds):
        for size in sizes:
            if size == max(sizes) and number:
                continue
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                source = folder / "rows.jsonl"
                one: dict[str, Any] = {"rows": size, "planted": make_rows(source, size)}
                one["bytes_per_row"] = source.stat().st_size / size
                for stage, result in _stages(folder, source):
                    one[stage] = result
                    told = f"{result['seconds']:.1f} s, {result['peak_bytes'] / 2**20:.0f} MiB, kept {result['kept']}"
                    say(f"scenarios round {number + 1} of {rounds}, {size} rows, {stage}: {told}")
                found.append(one)
    return {"workers": WORKERS, "datasketch": metadata.version("datasketch"), "runs": found}


def _stages(folder: Path, source: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Check and split go on from what came before; the plain script reads what dedupe read."""
    checked, deduped = folder / "check" / "scenarios.jsonl", folder / "dedupe" / "scenarios.jsonl"
    for stage, read in (("check", source), ("dedupe", checked), ("plain", checked), ("split", deduped)):
        result = folder / f"{stage}.json"
        command = [sys.executable, str(Path(__file__)), stage, str(read), str(folder / stage), str(result)]
        _, peak = watch(command, folder / "log.txt")
        yield stage, {**read_json(result), "peak_bytes": peak}


def main(stage: str, source: str, out: str, result: str) -> None:
    """One stage. Imports of the interpreter's start are outside its clock, the stage's own are inside."""
    started = time.perf_counter()
    counts = STAGES[stage](Path(source), Path(out))
    seconds = time.perf_counter() - started
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    told = {name: counts[name] for name in ("in", "kept", "rejected")}
    write_json_atomic(Path(result), {**told, "seconds": seconds, "cpu_seconds": cpu})


if __name__ == "__main__":
    main(*sys.argv[1:])
