"""What a grade by a model costs besides the model: our judge, the openai SDK and Inspect's provider before one slow server.

``measure_judge`` starts every program in a process of its own: ``python judges.py serve SECONDS``, ``python judges.py NAME URL
CALLS RESULT.json`` for a client and ``python judges.py memory URL GRADES RESULT.json``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from importlib import metadata
from pathlib import Path
from random import Random
from typing import Any

from measure import Say, run_alone

from traitrl.chat import ChatRequest, Endpoint, OpenAICompatible, in_order
from traitrl.core import Criterion, Grade, Message, Rubric
from traitrl.judging import ModelScorer, load_judge
from traitrl.store import read_json, write_json_atomic

LATENCY_SECONDS = 0.2
IN_FLIGHT = 500
CONTENDERS = {"ours": 10_000, "openai": 2_000, "inspect": 1_000}  # timed calls: each some seconds of work
_CRITERIA = 6
_CONVERSATION_WORDS, _REPLY_WORDS = 120, 220
_PROMPTS = 200
_CLIENT_CORE, _SERVER_CORE = 0, 1
_FAST_SECONDS = 0.001  # the server's latency where memory is looked at and not speed

Ask = Callable[[int], Awaitable[object]]


class Prompt:
    """A conversation of one turn with its rubric; see :class:`traitrl.judging.scorer.Judged`."""

    def __init__(self, number: int) -> None:
        """Made-up words, the same for the same number."""
        dice = Random(number)
        vocabulary = [f"{a}{b}" for a in ("ka", "lo", "mi", "tre", "vus") for b in ("n", "rel", "sto", "den", "fa")]
        words = [dice.choice(vocabulary) for _ in range(_CONVERSATION_WORDS + _REPLY_WORDS)]
        self.messages = (Message(role="user", content=" ".join(words[:_CONVERSATION_WORDS])),)
        dash = " –" if number % 2 else ""  # half of the replies are not plain ASCII
        self.reply = (dash + "\n\n").join(
            " ".join(words[at : at + 55]) for at in range(_CONVERSATION_WORDS, len(words), 55)
        )
        self.criteria = tuple(
            Criterion(id=f"c{place}", text=f"State {' '.join(dice.choices(vocabulary, k=12))}", points=points)
            for place, points in enumerate((8, 6, 5, 4, -6, -9)[:_CRITERIA])
        )

    def as_rubric(self) -> Rubric:
        """What the reply is graded by."""
        return Rubric(criteria=self.criteria)


def verdict_answer() -> bytes:
    """The body of every answer: a completion with one verdict and its reason for each criterion."""
    reason = "The second paragraph of the reply says so in as many words, and nothing after it takes that back."
    verdicts = [{"criterion": n, "reason": reason, "met": n % 2 == 1} for n in range(1, _CRITERIA + 1)]
    completion = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "judge",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": json.dumps({"verdicts": verdicts})},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 900, "completion_tokens": 180, "total_tokens": 1080},
    }
    return json.dumps(completion).encode()


async def serve(seconds: float) -> None:
    """Answer every request after ``seconds``; the port is printed, and the end of standard input ends it."""
    from aiohttp import web

    body = verdict_answer()

    async def answer(request: web.BaseRequest) -> web.Response:
        await request.read()
        if seconds:
            await asyncio.sleep(seconds)
        return web.Response(body=body, content_type="application/json")

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2 * IN_FLIGHT)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


@contextlib.contextmanager
def server(seconds: float) -> Generator[str]:
    """The base URL of a server in a process of its own."""
    command = [sys.executable, str(Path(__file__)), "serve", str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin and child.stdout
        try:
            yield f"http://127.0.0.1:{int(child.stdout.readline())}/v1"
        finally:
            child.stdin.close()
            child.wait(10)


def ours(url: str) -> tuple[ModelScorer, Ask]:
    """A whole grade: the prompt is built, asked and its answer read into verdicts and a score."""
    endpoint = Endpoint(model="judge", base_url=url, key_env="", concurrency=IN_FLIGHT)
    scorer = ModelScorer(load_judge("rubric"), OpenAICompatible(endpoint))
    prompts = [Prompt(number) for number in range(_PROMPTS)]

    async def ask(number: int) -> Grade:
        prompt = prompts[number % _PROMPTS]
        return await scorer.score(prompt, prompt.reply)

    return scorer, ask


def ready_requests(url: str) -> list[ChatRequest]:
    """The same questions, built beforehand: the other clients are only asked to send them."""
    scorer, _ = ours(url)
    prompts = [Prompt(number) for number in range(_PROMPTS)]
    return [scorer.request(prompt, prompt.reply, prompt.criteria) for prompt in prompts]


def _response_format(request: ChatRequest) -> dict[str, Any]:
    assert request.schema
    schema = {"name": request.schema.name, "schema": request.schema.body, "strict": True}
    return {"type": "json_schema", "json_schema": schema}


def openai(url: str) -> Ask:
    """The SDK as its documentation shows it; the text of the answer is not read."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
    requests = ready_requests(url)

    async def ask(number: int) -> str | None:
        request = requests[number % _PROMPTS]
        completion = await client.chat.completions.create(
            model="judge",
            messages=[{"role": message.role, "content": message.content} for message in request.messages],  # type: ignore[misc]
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            seed=request.seed,
            response_format=_response_format(request),  # type: ignore[arg-type]
        )
        return completion.choices[0].message.content

    return ask


def inspect(url: str) -> Ask:
    """Inspect's provider for compatible endpoints, outside a task, so without its log; the text of the answer is not read."""
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser, GenerateConfig, get_model

    requests = ready_requests(url)
    config = GenerateConfig(
        max_connections=IN_FLIGHT,
        max_retries=0,
        max_tokens=requests[0].max_tokens,
        temperature=requests[0].temperature,
        seed=requests[0].seed,
        extra_body={"response_format": _response_format(requests[0])},
    )
    model = get_model("openai-api/local/judge", base_url=url, api_key="none", config=config, memoize=False)
    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser}

    async def ask(number: int) -> str:
        request = requests[number % _PROMPTS]
        output = await model.generate([kinds[message.role](content=message.content) for message in request.messages])
        return output.completion

    return ask


async def time_calls(ask: Ask, calls: int) -> dict[str, Any]:
    """Calls per wall second and CPU milliseconds per call, after one call for each place in flight."""

    async def run(count: int) -> None:
        async for _, answer in in_order(range(count), ask, IN_FLIGHT):
            if not answer or (isinstance(answer, Grade) and answer.score is None):
                raise RuntimeError(f"no answer: {answer!r}")

    await run(IN_FLIGHT)
    wall, cpu = time.perf_counter(), time.process_time()
    await run(calls)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"value": calls / wall, "cpu_ms": 1000 * cpu / calls, "calls": calls, "busy": cpu / wall}


async def watch_memory(url: str, grades: int) -> dict[str, Any]:
    """Peak resident bytes after a tenth of the grades and after all of them."""
    scorer, ask = ours(url)

    def numbers() -> Iterator[int]:
        yield from range(grades)

    peaks: list[int] = []
    started, done = time.perf_counter(), 0
    async for _ in in_order(numbers(), ask, IN_FLIGHT):
        done += 1
        if done in (grades // 10, grades):
            peaks.append(peak_bytes())
    await scorer.model.aclose()
    if scorer.graded != grades:
        raise RuntimeError(f"{scorer.graded} of {grades} graded: {dict(scorer.ungraded)}")
    return {"grades": grades, "early_bytes": peaks[0], "late_bytes": peaks[1], "seconds": time.perf_counter() - started}


def peak_bytes() -> int:
    """The most this process has held resident; unlike ``getrusage`` it leaves out what the parent held at the start."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measure_judge(rounds: int, calls: int, grades: int, say: Say) -> dict[str, Any]:
    """Rounds in which every contender goes once, then the memory of one long run. ``calls`` are ours, others make fewer."""
    pairs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, server(LATENCY_SECONDS) as url:
        for number in range(rounds):
            pairs.append({})
            for name, share in CONTENDERS.items():
                count = max(IN_FLIGHT, calls * share // CONTENDERS["ours"])
                result = pairs[-1][name] = _alone(name, url, count, Path(folder))
                rates = f"{result['value']:.0f} calls/s, {result['cpu_ms']:.3f} ms CPU"
                say(f"judge round {number + 1} of {rounds}, {name}: {rates}")
    with tempfile.TemporaryDirectory() as folder, server(_FAST_SECONDS) as url:
        say(f"judge: memory over {grades} grades")
        memory = _alone("memory", url, grades, Path(folder))
    peers = {name: metadata.version(name) for name in ("aiohttp", "openai", "inspect-ai")}
    return {
        "latency_seconds": LATENCY_SECONDS,
        "in_flight": IN_FLIGHT,
        "peers": peers,
        "pairs": pairs,
        "memory": memory,
    }


def _alone(name: str, url: str, count: int, folder: Path) -> dict[str, Any]:
    result = folder / "result.json"
    run_alone([sys.executable, str(Path(__file__)), name, url, str(count), str(result)])
    return read_json(result)


def _stay_on(core: int) -> None:
    """Keep to one core where the machine has it, so that server and client do not share one."""
    if core in os.sched_getaffinity(0) and len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, {core})


async def _client(name: str, url: str, count: int) -> dict[str, Any]:
    if name == "memory":
        return await watch_memory(url, count)
    if name == "ours":
        scorer, ask = ours(url)
        timed = await time_calls(ask, count)
        await scorer.model.aclose()
        return timed
    return await time_calls((openai if name == "openai" else inspect)(url), count)


def main(name: str, *rest: str) -> None:
    """The server, or one client whose figures go to a file."""
    _stay_on(_SERVER_CORE if name == "serve" else _CLIENT_CORE)
    if name == "serve":
        asyncio.run(serve(float(rest[0])))
        return
    url, count, result = rest
    write_json_atomic(Path(result), asyncio.run(_client(name, url, int(count))))


if __name__ == "__main__":
    main(*sys.argv[1:])
