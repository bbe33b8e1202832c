"""From raw results to ``benchmarks.md``: medians, spreads and whether each target is met."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

Raw = dict[str, Any]

RATIO_TRAINING, RATIO_EVALS = 1.05, 0.95
GRADES_PER_SECOND, GRADE_CPU_MS, MEMORY_GROWTH = 1200.0, 0.4, 1.05
STUDY_SECONDS, ATTACK_SECONDS, STUDY_GIB, HELP_SECONDS = 300.0, 120.0, 3.0, 0.5
_HEAD = "| Measure | Median | Min to max | Target | Met |\n|---|---:|---:|---|---|"
_UNJUDGED = ("", "")


def render(sections: dict[str, Raw]) -> str:
    """The whole page. ``sections`` maps a section's name to its raw results with their provenance."""
    blocks = ["# Benchmarks", _intro(), _setting(sections)]
    for name, (title, body) in _SECTIONS.items():
        blocks.append(f"## {title}")
        if name in sections:
            blocks += [body(sections[name]), _provenance(name, sections)]
        else:
            blocks.append(f"Not measured yet: `python benchmarks/run.py --only {name}`.")
    return "\n\n".join(blocks) + "\n"


def _intro() -> str:
    return (
        "Written by `python benchmarks/run.py` (`make bench`); raw results are in [benchmarks.json](benchmarks.json). "
        f"`--only {'|'.join(NAMES)}` measures one section again and keeps the others. Compared programs take turns, "
        "each in a fresh process with one thread and no network; a ratio is that of the two runs of one round."
    )


def _setting(sections: dict[str, Raw]) -> str:
    newest = max(sections.values(), key=lambda raw: raw["provenance"]["date"])["provenance"]
    return f"Machine: {_machine(newest)}.\n\nLibraries: {_versions(newest)}."


def _machine(provenance: Raw) -> str:
    machine = provenance["machine"]
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Python {machine['python']}"


def _versions(provenance: Raw) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(provenance["versions"].items()))


def _provenance(name: str, sections: dict[str, Raw]) -> str:
    """Date, revision and load; also machine and libraries where they are not those at the top of the page."""
    own = sections[name]["provenance"]
    text = f"Measured {own['date']}, code {own['revision']}; load average just before: {own['load_before']}."
    head = _setting(sections)
    if _machine(own) not in head:
        text += f" Other machine: {_machine(own)}."
    if _versions(own) not in head:
        text += f" Other libraries: {_versions(own)}."
    return text


def _row(label: str, values: Sequence[float], target: str = "", met: str = "", digits: int = 3) -> str:
    spread = f"{min(values):.{digits}f} to {max(values):.{digits}f}" if len(values) > 1 else "one run"
    return f"| {label} | {statistics.median(values):.{digits}f} | {spread} | {target} | {met} |"


def _at_most(values: Sequence[float], limit: float, unit: str = "") -> tuple[str, str]:
    return f"at most {limit:g}{unit}", "yes" if statistics.median(values) <= limit else "**no**"


def _at_least(values: Sequence[float], limit: float) -> tuple[str, str]:
    return f"at least {limit:g}", "yes" if statistics.median(values) >= limit else "**no**"


def _column(raw: Raw, name: str) -> list[float]:
    return [pair[name]["value"] for pair in raw["pairs"]]


def _ratios(raw: Raw, other: str, ours: str = "ours") -> list[float]:
    return [mine / theirs for mine, theirs in zip(_column(raw, ours), _column(raw, other))]


def _training(raw: Raw) -> str:
    ratios = _ratios(raw, "bare")
    same = all(pair["same-draws"]["rewards"] == pair["bare"]["rewards"] for pair in raw["pairs"])
    rows = [
        _row("traitrl, seconds per step", _column(raw, "ours")),
        _row("traitrl with torch's own draws, seconds per step", _column(raw, "same-draws")),
        _row("bare TRL, seconds per step", _column(raw, "bare")),
        _row("ratio, traitrl to bare", ratios, *_at_most(ratios, RATIO_TRAINING)),
        _row("ratio, with torch's own draws", _ratios(raw, "bare", "same-draws"), *_UNJUDGED),
    ]
    note = (
        f"The pocket study's traits arm for {raw['steps']} steps, rounds: {len(raw['pairs'])}. The clock runs from the end "
        "of step 2 to the end of the last, so loading and the final checkpoint are outside it. Bare TRL is a `GRPOTrainer` "
        "with the same `GRPOConfig`, model and prompts in the same order, and a reward function that only applies the "
        "rules: no ledger, no accounting. traitrl draws its tokens in another way (`src/traitrl/sampling.py`), so a seed "
        "gives other replies; with torch's own draws the mean rewards of every step equal bare TRL's, and the work is the same: "
        f"{'yes' if same else '**no**'}."
    )
    return f"{note}\n\n{_HEAD}\n" + "\n".join(rows)


def _evals(raw: Raw) -> str:
    ratios, wide, size = _ratios(raw, "bare"), _ratios(raw, "bare-wide"), raw["batch_size"]
    rows = [
        _row("traitrl, answers per second", _column(raw, "ours"), digits=1),
        _row("bare Inspect, answers per second", _column(raw, "bare"), digits=1),
        _row("ratio, traitrl to bare", ratios, *_at_least(ratios, RATIO_EVALS), digits=2),
        _row(f"bare Inspect with `max_connections={size}`, answers per second", _column(raw, "bare-wide"), digits=1),
        _row("ratio, traitrl to that", wide, *_UNJUDGED, digits=2),
    ]
    note = (
        f"The first {raw['limit']} pocket items of each suite row, {raw['pairs'][0]['ours']['answers']} answers from the "
        f"coherent prior, rounds: {len(raw['pairs'])}. Bare Inspect is a plain task with the same rules as scorer on "
        "Inspect's own `hf` provider, 32 requests at a time as is its default; the second comparison gives it batches as "
        "large as ours. Every process first answers one item, so imports are outside the clock; loading the weights is "
        "inside it for all, and so are our records and manifest. With a model this small much of the `hf` provider's time "
        "is its own waiting (2 s for a batch to fill, 1 s between looks for answers), which matters less the larger the model is."
    )
    return f"{note}\n\n{_HEAD}\n" + "\n".join(rows)


def _study(raw: Raw) -> str:
    limit = f"at most {STUDY_GIB:g} GiB"
    if "stage_seconds" in raw:
        rows = [
            _row("sum of stage seconds", [raw["stage_seconds"]], "", "not judged", digits=0),
            f"| wall seconds | not measured | | at most {STUDY_SECONDS:g} s | not judged |",
            f"| peak memory | not measured | | {limit} | not judged |",
        ]
        note = (
            f"From the {raw['stages']} manifests of a finished study (code {', '.join(raw['revisions'])}), not from a run "
            f"of its own: {raw['clocked']} of them hold wall seconds, summed here. Stages of different runs go side by "
            "side, so their sum is not the wall time of the study."
        )
    else:
        seconds, gib = [raw["wall_seconds"]], [raw["peak_bytes"] / 2**30]
        attacks = [raw["attack_seconds"] / raw["workers"]]
        rows = [
            _row("wall seconds", seconds, *_at_most(seconds, STUDY_SECONDS, " s"), digits=1),
            _row("CPU seconds of all its processes", [raw["cpu_seconds"]], *_UNJUDGED, digits=1),
            _row("stage 4, all attacks, seconds", attacks, *_at_most(attacks, ATTACK_SECONDS, " s"), digits=1),
            _row("peak memory, GiB", gib, *_at_most(gib, STUDY_GIB, " GiB"), digits=2),
        ]
        note = (
            "`traitrl study run pocket` from an empty folder to the report, once. Memory is the largest sum of the resident "
            "sets of all its processes, looked at every 0.2 s; pages that processes share count for each. Runs go "
            f"side by side, so stage 4 has no time of its own: here the sum of its stages' seconds over {raw['workers']} workers."
        )
    return f"{note}\n\n{_HEAD}\n" + "\n".join(rows)


def _cli(raw: Raw) -> str:
    seconds = raw["seconds"]
    met = "yes" if statistics.median(seconds) < HELP_SECONDS else "**no**"
    row = _row("`traitrl --help`, wall seconds", seconds, f"below {HELP_SECONDS:g} s", met)
    return f"{len(seconds)} fresh processes.\n\n{_HEAD}\n{row}"


def _judge(raw: Raw) -> str:
    rates, cpu = _column(raw, "ours"), _cpu(raw, "ours")
    rows = [
        _row("traitrl, grades per second", rates, *_at_least(rates, GRADES_PER_SECOND), digits=0),
        _row("traitrl, CPU ms per grade", cpu, *_at_most(cpu, GRADE_CPU_MS)),
        _row("traitrl, grades per CPU second", [1000 / each for each in cpu], *_UNJUDGED, digits=0),
    ]
    for name, title in (("openai", "openai SDK"), ("inspect", "Inspect's provider")):
        times = [theirs / ours for theirs, ours in zip(_cpu(raw, name), cpu)]
        rows += [
            _row(f"{title}, calls per second", _column(raw, name), digits=0),
            _row(f"{title}, CPU ms per call", _cpu(raw, name), digits=2),
            _row(f"CPU of {title} to traitrl", times, *_UNJUDGED, digits=1),
        ]
    memory = raw["memory"]
    early, late = memory["early_bytes"], memory["late_bytes"]
    rows.append(_row(f"peak memory after {memory['grades'] // 10} grades, MiB", [early / 2**20], digits=1))
    rows.append(_row(f"peak memory after {memory['grades']} grades, MiB", [late / 2**20], digits=1))
    rows.append(_row("ratio of the two", [late / early], *_at_most([late / early], MEMORY_GROWTH)))
    counts = ", ".join(f"{title} {raw['pairs'][0][name]['calls']}" for name, title in _CLIENTS.items())
    busy = ", ".join(
        f"{title} {statistics.median(pair[name]['busy'] for pair in raw['pairs']):.0%}"
        for name, title in _CLIENTS.items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in raw["peers"].items())
    note = (
        f"A local server, in a process of its own on the other core, answers every call after {raw['latency_seconds']} s "
        f"with six well-formed verdicts; {raw['in_flight']} calls are in flight, so no client can pass "
        f"{raw['in_flight'] / raw['latency_seconds']:.0f} per second. Each client has one core. traitrl builds the prompt, "
        "asks and reads the answer into a grade; the openai SDK (no retries) and Inspect's provider (outside a task, so "
        "without its log) send the same prompts, built beforehand, and the answer is not read. Timed calls of a run, after "
        f"{raw['in_flight']} that are not: {counts}; rounds: {len(raw['pairs'])}. CPU is the client's process, user and "
        "system; it depends on what else runs much less than calls per second do. Share of the wall time in which the client had "
        f"CPU, the rest being waiting for answers or for a core that other work held: {busy}. "
        f"Memory is the peak resident set of one run with a server that answers after 1 ms. {versions}."
    )
    return f"{note}\n\n{_HEAD}\n" + "\n".join(rows)


_CLIENTS = {"ours": "traitrl", "openai": "openai", "inspect": "Inspect"}


def _cpu(raw: Raw, name: str) -> list[float]:
    return [pair[name]["cpu_ms"] for pair in raw["pairs"]]


_STAGES = {
    "check": "traitrl check",
    "dedupe": "traitrl dedupe",
    "plain": "plain datasketch script",
    "split": "traitrl split",
}


def _scenarios(raw: Raw) -> str:
    sizes = sorted({run["rows"] for run in raw["runs"]})
    small, large = sizes[0], sizes[-1]

    def middle(stage: str, field: str, size: int) -> float:
        return statistics.median(run[stage][field] for run in raw["runs"] if run["rows"] == size)

    lines = [
        f"| Stage | s, {small} rows | s, {large} rows | Growth | CPU s, {small} | CPU s, {large} | Growth "
        f"| Peak MiB, {small} | Peak MiB, {large} |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for stage, title in _STAGES.items():
        cells = [title]
        for field in ("seconds", "cpu_seconds"):
            low, high = middle(stage, field, small), middle(stage, field, large)
            cells += [f"{low:.1f}", f"{high:.1f}", f"{high / low:.1f}"]
        cells += [f"{middle(stage, 'peak_bytes', size) / 2**20:.0f}" for size in (small, large)]
        lines.append(f"| {' | '.join(cells)} |")
    ratios = [f"{middle('dedupe', field, large) / middle('plain', field, large):.2f}" for field in _COMPARED]
    last = next(run for run in raw["runs"] if run["rows"] == large)
    apart = max(abs(run["dedupe"]["kept"] - run["plain"]["kept"]) for run in raw["runs"])
    note = (
        f"Made rows of {last['bytes_per_row'] / 1000:.1f} kB, one in twenty nearly an earlier one; {raw['workers']} worker "
        f"processes; each stage in a process of its own, which reads what the one before kept. {small} rows "
        f"{sum(run['rows'] == small for run in raw['runs'])} times (medians), {large} rows once. The script is one process "
        "that reads the same file as dedupe (word trigrams, MinHash of 128 permutations, LSH at 0.7) and writes the lines "
        "it keeps, without checks, reasons or manifest; it makes a "
        "MinHash per row as in datasketch's first example. Memory is the largest sum of the resident sets of all processes of "
        "a stage, looked at every 0.2 s; pages that they share count for each. Linear growth is "
        f"{large / small:.0f}. Dedupe to script at {large} rows: wall {ratios[0]}, CPU {ratios[1]}, memory {ratios[2]}. "
        f"Rows kept at {large}: dedupe {last['dedupe']['kept']}, script {last['plain']['kept']}, with {last['planted']} "
        f"planted; in every run they agree: {'yes' if apart == 0 else f'no, at most {apart} apart'}. "
        f"datasketch {raw['datasketch']}."
    )
    return f"{note}\n\n" + "\n".join(lines)


_COMPARED = ("seconds", "cpu_seconds", "peak_bytes")


_SECTIONS = {
    "training": ("Seconds per RL step", _training),
    "evals": ("Eval answers per second", _evals),
    "judge": ("Grades by a model", _judge),
    "scenarios": ("The scenario pipeline at size", _scenarios),
    "study": ("The default study", _study),
    "cli": ("Start of the command line", _cli),
}
NAMES = tuple(_SECTIONS)
