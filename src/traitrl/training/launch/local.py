"""Run jobs as processes on this machine, one torch thread each.

Torch with two threads while anything else runs is many times slower, since waiting threads spin; so runs go side by side
instead, and each worker process keeps its imports over many jobs.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from threading import Thread
from typing import Any, TypeVar

Job = TypeVar("Job")
Event = dict[str, Any]
Report = Callable[[Event], None]

_events: Any = None  # the worker's end of the event queue, set once per worker process


def _start_worker(events: Any, parent: int) -> None:
    """Die with the parent, even when it is killed: an orphan would write into folders that a new run has taken over."""
    global _events
    _events = events
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(ctypes, "CDLL") and os.uname().sysname == "Linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)


def _work(function: Callable[[Job, Report], Any], job: Job) -> Any:
    return function(job, _events.put)


def run_jobs(function: Callable[[Job, Report], Any], jobs: Sequence[Job], workers: int, on_event: Report) -> list[Any]:
    """Results of ``function(job, report)`` in the order of ``jobs``, at most ``workers`` at a time.

    What a job passes to ``report`` reaches ``on_event`` here. The first job that fails ends the others and its
    error is raised. ``function`` must be importable by name. With 0 workers the jobs are done one by one in this process,
    as in torch's DataLoader: for a debugger, and where another process would only pay for the imports again.
    """
    if not jobs or not workers:
        return [function(job, on_event) for job in jobs]
    context = multiprocessing.get_context("spawn")
    events = context.SimpleQueue()
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    before = {name: os.environ.get(name) for name in threads}
    os.environ.update(threads)  # read by torch when the workers import it

    def listen() -> None:
        while (event := events.get()) is not None:
            on_event(event)

    listener = Thread(target=listen, daemon=True)
    listener.start()
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)), mp_context=context, initializer=_start_worker, initargs=(events, os.getpid())
    )
    try:
        futures = [pool.submit(_work, function, job) for job in jobs]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        failed = next((future for future in done if future.exception()), None)
        if failed:
            failed.result()
        results = [future.result() for future in futures]
        events.put(None)
        listener.join()
        return results
    except (
        BaseException
    ):  # an interrupt too: what is half done is continued by the next run, so nobody need wait for it
        for child in multiprocessing.active_children():
            child.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
