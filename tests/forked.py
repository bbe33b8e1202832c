"""Processes to kill, which share their imports.

A fresh interpreter spends some seconds on torch, TRL and Inspect before it does anything, and tests that kill a process start
many. So one process (this file, run as a script) imports them once and forks for every script that is to be run: each is a
process of its own, with its own memory, and SIGKILL ends it as it ends any other.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

TRAITRL = "import sys; from traitrl.cli import main; sys.exit(main(sys.argv[1:]))"  # the command, as a script
IMPORTED = (
    "traitrl.cli",
    "traitrl.study.path",
    "traitrl.training.engines.trl",
    "traitrl.evals.items",
    "trl.trainer.grpo_trainer",
    "trl.trainer.sft_trainer",
    "inspect_evals._registry",  # this and the next two Inspect itself imports with the first eval
    "openai",
    "acp",
    "pyarrow.parquet",
    "pandas",
    "altair",
)


class Forked:
    """A running ``script`` with ``arguments``; all that it prints goes to the file ``screen``."""

    def __init__(self, script: str, *arguments: str, screen: Path) -> None:
        self._screen = screen
        screen.touch()
        self.pid: int = _ask({"script": script, "arguments": arguments, "screen": str(screen), "env": dict(os.environ)})

    @property
    def printed(self) -> str:
        return self._screen.read_text(encoding="utf-8")

    def poll(self) -> int | None:
        """The exit code, None while it runs; the negative signal for one that was killed."""
        return _ask({"pid": self.pid, "wait": False})

    def wait(self) -> int:
        return _ask({"pid": self.pid, "wait": True})

    def kill(self) -> None:
        """SIGKILL, unless it has ended by itself; returns when it is gone."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()


def kill_at(line: str, script: str, *arguments: str, screen: Path) -> None:
    """Run ``script`` until it prints ``line`` and kill it there."""
    child = Forked(script, *arguments, screen=screen)
    while line not in child.printed.splitlines():
        assert child.poll() is None, f"it ended before it printed {line!r}: {child.printed}"
        time.sleep(0.005)
    child.kill()


@cache
def _server() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )  # fmt: skip


def _ask(request: dict[str, Any]) -> Any:
    server = _server()
    assert server.stdin and server.stdout
    print(json.dumps(request), file=server.stdin, flush=True)
    answer = server.stdout.readline()
    assert answer, f"the process that forks is gone (exit code {server.poll()})"
    return json.loads(answer)


def _serve() -> None:
    """Answer requests, one a line, until there are no more; what still runs then is killed."""
    for name in IMPORTED:
        import_module(name)
    codes: dict[int, int | None] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "script" in request:
            answer = os.fork()
            if answer == 0:
                _become(request)
            codes[answer] = None
        else:
            answer = codes[request["pid"]]
            if answer is None:
                pid, status = os.waitpid(request["pid"], 0 if request["wait"] else os.WNOHANG)
                answer = codes[request["pid"]] = os.waitstatus_to_exitcode(status) if pid else None
        print(json.dumps(answer), flush=True)
    for pid in [pid for pid, code in codes.items() if code is None]:
        os.kill(pid, signal.SIGKILL)


def _become(request: dict[str, Any]) -> None:
    """In the child: do what ``python -c script arguments`` does, and end."""
    code: Any = 1
    try:
        screen = os.open(request["screen"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(screen, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.clear()
        os.environ.update(request["env"])
        sys.argv = ["-c", *request["arguments"]]
        exec(compile(request["script"], "<script>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    _serve()
