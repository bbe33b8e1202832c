"""The measurements. Each function returns a section's raw results as JSON; nothing is judged here."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from traitrl.catalog import load_catalog
from traitrl.core import Frozen
from traitrl.evals.run import EvalJob
from traitrl.store import code_revision, library_versions, read_json, read_manifest
from traitrl.study.config import load_study
from traitrl.study.path import plan_runs, world_files
from traitrl.training.run import TrainingJob
from traitrl.verbs.study import shipped_study

HERE = Path(__file__).parent
_SAMPLE_SECONDS = 0.2
_HELP_RUNS = 7
_STALLED_SECONDS = 900.0  # no contender takes minutes on the pocket world
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
# Inspect asks the hub about the model's name once in a process; without a network it then waits through many retries.
_NO_NETWORK = {"HF_HUB_OFFLINE": "1", "INSPECT_DISABLE_MODEL_API_TELEMETRY": "1"}

Say = Callable[[str], None]


class Effort(Frozen):
    """How much is measured."""

    steps: int = 24
    pairs: int = 3
    limit: int = 6


def provenance() -> dict[str, Any]:
    """Where, when and with what a section is measured. The load average tells whether the machine was idle before."""
    cpu = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if ":" in line]
    fields = [(key.strip(), value.strip()) for key, value in cpu]
    memory = int(Path("/proc/meminfo").read_text(encoding="utf-8").split()[1])
    machine = {
        "cpu": next((value for key, value in fields if key == "model name"), "unknown"),
        "cores": sum(key == "processor" for key, _ in fields),
        "memory_gib": round(memory / 2**20, 1),
        "python": sys.version.split()[0],
    }
    return {
        "machine": machine,
        "versions": library_versions(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "revision": code_revision(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def pocket_jobs(folder: Path, effort: Effort) -> tuple[TrainingJob, EvalJob]:
    """The traits arm of the default study on the coherent prior: its training, shortened, and the evals of its start model."""
    study = load_study(shipped_study("pocket"))
    runs = plan_runs(study, load_catalog(), world_files(study, folder / "world"), folder)
    run = next(run for run in runs if run.training.experiment == "coherent" and run.training.arm.id == "traits")
    config = run.training.config.model_copy(update={"steps": effort.steps, "checkpoints": 1})
    training = run.training.model_copy(update={"config": config})
    evals = run.evals.model_copy(update={"capability": (), "heldout": None, "limit": effort.limit})
    return training, evals


def measure_training(effort: Effort, say: Say) -> dict[str, Any]:
    """Seconds per RL step, ours against bare TRL."""
    with tempfile.TemporaryDirectory() as folder:
        job, _ = pocket_jobs(Path(folder), effort)
        pairs = _pairs("training", job, ("ours", "same-draws", "bare"), effort.pairs, Path(folder), say)
        return {"steps": effort.steps, "pairs": pairs}


def measure_evals(effort: Effort, say: Say) -> dict[str, Any]:
    """Answers per second, ours against bare Inspect with its default batches and with batches of our size."""
    with tempfile.TemporaryDirectory() as folder:
        _, job = pocket_jobs(Path(folder), effort)
        pairs = _pairs("evals", job, ("ours", "bare", "bare-wide"), effort.pairs, Path(folder), say)
        return {"limit": effort.limit, "batch_size": job.config.batch_size, "pairs": pairs}


def _pairs(
    what: str, job: Frozen, contenders: Sequence[str], count: int, folder: Path, say: Say
) -> list[dict[str, Any]]:
    """``count`` rounds; in each, every contender once, in turn, in a process of its own."""
    job_file = folder / "job.json"
    job_file.write_text(job.model_dump_json(), encoding="utf-8")
    rounds: list[dict[str, Any]] = []
    for number in range(count):
        results: dict[str, Any] = {}
        for name in contenders:
            scratch = folder / f"{name}-{number}"
            scratch.mkdir()
            command = [sys.executable, str(HERE / "contenders.py"), what, name, str(job_file), str(scratch)]
            run_alone(command)
            results[name] = read_json(scratch / "result.json")
            say(f"{what} round {number + 1} of {count}, {name}: {results[name]['value']:.4g}")
        rounds.append(results)
    return rounds


def run_alone(command: Sequence[str], limit: float = _STALLED_SECONDS) -> None:
    """Run to the end; a failure or a stall ends the benchmark with what the command last said, a stall with its stacks."""
    env = {**os.environ, **_ONE_THREAD, **_NO_NETWORK, "PYTHONFAULTHANDLER": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=pipe, text=True, env=env) as child:
        try:
            said = child.communicate(timeout=limit)[1]
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGABRT)  # the fault handler then prints every thread's stack
            said = child.communicate()[1]
        finally:
            if child.returncode is None:
                child.kill()
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} failed ({child.returncode}):\n" + "\n".join(said.splitlines()[-60:]))


def measure_study(say: Say) -> dict[str, Any]:
    """The default study from nothing to its report: wall seconds, and the most memory its processes held together."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).with_name("traitrl")), "study", "run", "pocket", "--out", f"{folder}/study"]
        say("study: one whole run, minutes")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds, peak = watch(command, Path(folder) / "log.txt")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        attacks = sorted((Path(folder) / "study" / "4-persistence").rglob("manifest.json"))
        return {
            "wall_seconds": round(seconds, 2),
            "cpu_seconds": round(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, 2),
            "attack_seconds": round(sum(read_manifest(path.parent).wall_seconds for path in attacks), 2),
            "workers": load_study(shipped_study("pocket")).workers,
            "peak_bytes": peak,
        }


def watch(command: Sequence[str], log: Path) -> tuple[float, int]:
    """Wall seconds of a command and the largest sum of resident bytes of its process tree; a failure ends the benchmark."""
    peak, started = 0, time.monotonic()
    with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=said) as child:
        try:
            while child.poll() is None:
                peak = max(peak, tree_rss(child.pid))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=_SAMPLE_SECONDS)
            seconds = time.monotonic() - started
        finally:
            if child.returncode is None:
                child.terminate()
    if child.returncode:
        raise SystemExit("\n".join(log.read_text(encoding="utf-8").splitlines()[-12:]))
    return seconds, peak


def tree_rss(root: int) -> int:
    """Resident bytes of a process and all its descendants; pages that several of them share count for each."""
    resident: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        pid = int(path.parent.name)
        resident[pid] = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        children.setdefault(int(fields[1]), []).append(pid)
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        total += resident.get(pid, 0)
        waiting += children.get(pid, [])
    return total


def read_study(folder: Path) -> dict[str, Any]:
    """What the manifests of a finished study say; they hold no memory and no idle time, and some stages keep no clock."""
    if not (folder / "6-report" / "manifest.json").exists():
        raise SystemExit(f"{folder} is not a finished study: it has no 6-report/manifest.json")
    manifests = [read_manifest(path.parent) for path in sorted(folder.rglob("manifest.json"))]
    return {
        "stage_seconds": round(sum(manifest.wall_seconds for manifest in manifests), 2),
        "stages": len(manifests),
        "clocked": sum(manifest.wall_seconds > 0 for manifest in manifests),
        "revisions": sorted({manifest.revision for manifest in manifests}),
    }


def measure_cli(say: Say) -> dict[str, Any]:
    """Wall seconds of ``traitrl --help``, each in a fresh process."""
    seconds: list[float] = []
    for _ in range(_HELP_RUNS):
        started = time.perf_counter()
        run_alone([str(Path(sys.executable).with_name("traitrl")), "--help"])
        seconds.append(time.perf_counter() - started)
    say(f"cli: {statistics.median(seconds):.3f} s")
    return {"seconds": seconds}
