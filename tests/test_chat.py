"""The door to models: the contract every model passes, the client against an unruly server, the cache under a kill."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter

import pytest

from traitrl.chat import (
    Cached,
    ChatError,
    ChatModel,
    ChatReply,
    ChatRequest,
    Endpoint,
    OpenAICompatible,
    Price,
    Schema,
    Scripted,
    Usage,
    in_order,
)
from traitrl.core import ConfigError, Message, StoreError
from unruly_server import FAULTS, Unruly, serve


def request(text: str = "hello there", **changes: object) -> ChatRequest:
    return ChatRequest(messages=(Message(role="user", content=text),), **changes)  # type: ignore[arg-type]


def endpoint(url: str, **changes: object) -> Endpoint:
    settings = {"model": "m", "base_url": url, "key_env": "", "timeout_seconds": 30, "backoff_seconds": 0.01}
    return Endpoint.model_validate(settings | changes)


def echo(payload: dict) -> str:
    return payload["messages"][-1]["content"].upper()


@pytest.mark.parametrize("kind", ["http", "scripted", "cached"])
def test_every_model_keeps_the_contract(kind: str, tmp_path) -> None:
    async def main() -> None:
        async with serve(Unruly(echo)) as url:
            scripted = Scripted(lambda asked: asked.messages[-1].content.upper())
            model: ChatModel = OpenAICompatible(endpoint(url)) if kind == "http" else scripted
            model = Cached(scripted, tmp_path / "answers.sqlite") if kind == "cached" else model
            replies = await asyncio.gather(*(model.ask(request(f"word {n}")) for n in range(20)))
            assert [reply.text for reply in replies] == [f"WORD {n}" for n in range(20)]
            assert all(reply.finish == "stop" and reply.reply_tokens == 2 and reply.prompt_tokens for reply in replies)
            assert model.name and model.identity and model.usage.answers == model.usage.calls == 20
            assert model.usage.prompt_tokens == sum(reply.prompt_tokens for reply in replies)
            await model.aclose()
            assert (await model.ask(request("again"))).text == "AGAIN"
            await model.aclose()

    asyncio.run(main())


def test_the_request_carries_what_was_asked() -> None:
    async def main() -> None:
        unruly = Unruly(echo)
        async with serve(unruly) as url:
            schema = Schema("verdicts", {"type": "object"})
            asked = request(max_tokens=9, temperature=0.5, seed=3, sample=2, schema=schema, top_logprobs=4)
            for structured in ("json_schema", "json_object", "none"):
                model = OpenAICompatible(endpoint(url, structured=structured, extra={"top_k": 1}))
                await model.ask(asked)
                await model.aclose()
        first, second, third = unruly.payloads
        assert first["messages"] == [{"role": "user", "content": "hello there"}]
        assert (first["max_tokens"], first["temperature"], first["seed"], first["top_k"]) == (9, 0.5, 5, 1)
        assert first["logprobs"] is True
        assert first["top_logprobs"] == 4
        assert first["response_format"]["json_schema"] == {
            "name": "verdicts",
            "schema": {"type": "object"},
            "strict": True,
        }
        assert second["response_format"] == {"type": "json_object"}
        assert "response_format" not in third

    asyncio.run(main())


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_is_survived(fault: str) -> None:
    async def main() -> None:
        async with serve(Unruly(echo, lambda n, payload: fault if n == 0 else "")) as url:
            model = OpenAICompatible(endpoint(url, timeout_seconds=0.5 if fault == "hang" else 30))
            assert (await model.ask(request())).text == "HELLO THERE"
            assert model.usage.calls == 2
            assert sum(model.usage.failures.values()) == 1
            await model.aclose()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fault", "cause"),
    [("reset", "reset"), ("429", "rate-limit"), ("500", "server"), ("hang", "timeout"), ("half", "cut"),
     ("not-json", "not-json"), ("no-choices", "shape"), ("null", "shape"), ("400", "client")],
)  # fmt: skip
def test_a_lasting_fault_ends_with_its_cause(fault: str, cause: str) -> None:
    async def main() -> None:
        unruly = Unruly(echo, lambda n, payload: fault)
        async with serve(unruly) as url:
            model = OpenAICompatible(endpoint(url, max_attempts=3, timeout_seconds=0.1 if fault == "hang" else 30))
            with pytest.raises(ChatError) as caught:
                await model.ask(request())
            assert caught.value.cause == cause
            tries = 1 if fault == "400" else 3  # a request that is wrong is not asked again
            assert caught.value.attempts == unruly.requests == tries
            assert model.usage.failures == Counter({cause: tries})
            await model.aclose()

    asyncio.run(main())


def test_a_closed_port_is_a_connection_failure() -> None:
    async def main() -> None:
        model = OpenAICompatible(endpoint("http://127.0.0.1:9/v1", max_attempts=2))
        with pytest.raises(ChatError, match=r"connect after 2 tries: 127\.0\.0\.1:9"):
            await model.ask(request())
        await model.aclose()

    asyncio.run(main())


def test_the_deadline_bounds_waits_and_retry_after_is_honoured() -> None:
    async def main() -> None:
        unruly = Unruly(echo, lambda n, payload: "429-after" if n < 2 else "")
        async with serve(unruly) as url:
            model = OpenAICompatible(endpoint(url, backoff_seconds=50))  # an own backoff would pass every deadline
            assert (await model.ask(request())).text == "HELLO THERE"
            assert unruly.requests == 3
            await model.aclose()
        async with serve(Unruly(echo, lambda n, payload: "500")) as url:
            model = OpenAICompatible(endpoint(url, backoff_seconds=50, deadline_seconds=4))
            start = time.monotonic()
            with pytest.raises(ChatError, match=r"deadline after 1 try: last failure: server: HTTP 500"):
                await model.ask(request())
            assert time.monotonic() - start < 5
            await model.aclose()

    asyncio.run(main())


@pytest.mark.slow
def test_waiting_for_ones_turn_does_not_count_against_the_deadline() -> None:
    def slow(payload: dict) -> str:
        time.sleep(0.06)
        return echo(payload)

    async def main() -> None:
        async with serve(Unruly(slow)) as url:
            model = OpenAICompatible(endpoint(url, concurrency=1, timeout_seconds=1, deadline_seconds=1))
            start = time.monotonic()
            replies = await asyncio.gather(*(model.ask(request()) for _ in range(25)))
            assert len(replies) == 25 and time.monotonic() - start > 1
            assert not model.usage.failures
            await model.aclose()

    asyncio.run(main())


def test_never_more_in_flight_than_allowed() -> None:
    async def main() -> None:
        unruly = Unruly(echo)
        async with serve(unruly) as url:
            model = OpenAICompatible(endpoint(url, concurrency=3))
            await asyncio.gather(*(model.ask(request()) for _ in range(40)))
            await model.aclose()
        assert unruly.most_in_flight <= 3
        assert unruly.requests == 40

    asyncio.run(main())


def test_the_key_is_sent_and_never_shown(monkeypatch) -> None:
    monkeypatch.setenv("A_KEY", "sk-very-secret")

    async def main() -> None:
        unruly = Unruly(echo, lambda n, payload: "500")  # this fault echoes the header
        async with serve(unruly) as url:
            model = OpenAICompatible(endpoint(url, key_env="A_KEY", max_attempts=1))
            with pytest.raises(ChatError) as caught:
                await model.ask(request())
            assert unruly.headers[0]["Authorization"] == "Bearer sk-very-secret"
            assert "***" in str(caught.value)
            shown = str(caught.value) + repr(caught.value) + model.identity + repr(model) + repr(vars(model.usage))
            assert "very-secret" not in shown
            await model.aclose()

    asyncio.run(main())
    with pytest.raises(ConfigError, match="set the environment variable NO_SUCH_KEY"):
        OpenAICompatible(Endpoint(model="m", key_env="NO_SUCH_KEY"))


def test_one_model_serves_one_event_loop_after_another() -> None:
    models: list[OpenAICompatible] = []

    async def main() -> None:
        async with serve(Unruly(echo)) as url:
            model = models[0] if models else OpenAICompatible(endpoint(url))
            model._endpoint = endpoint(url)  # the port changes with the server
            models.append(model)
            assert (await model.ask(request())).text == "HELLO THERE"
            await model.aclose()

    asyncio.run(main())
    asyncio.run(main())


def test_the_cache_answers_once_per_question(tmp_path) -> None:
    asked: list[ChatRequest] = []

    def script(question: ChatRequest) -> ChatReply:
        asked.append(question)
        if question.messages[-1].content == "bad":
            raise ChatError("scripted", 1, "no")
        return ChatReply(
            text=f"{len(asked)}", prompt_tokens=5, reply_tokens=2, logprobs=(("a", {"a": -0.1, "b": -2.0}),)
        )

    async def main() -> None:
        model = Cached(Scripted(script), tmp_path / "a" / "answers.sqlite")
        twins = await asyncio.gather(model.ask(request()), model.ask(request()))
        assert twins[0].text == twins[1].text == "1"
        assert sorted(reply.cached for reply in twins) == [False, True]
        assert (await model.ask(request(sample=1))).text == "2"
        assert (await model.ask(request(temperature=1.0))).text == "3"
        for _ in range(2):
            with pytest.raises(ChatError):
                await model.ask(request("bad"))
        assert len(asked) == 5  # a failure is not kept
        await model.aclose()
        again = Cached(Scripted(script), tmp_path / "a" / "answers.sqlite")
        reply = await again.ask(request())
        assert reply.cached
        assert reply.text == "1"
        assert reply.logprobs == (("a", {"a": -0.1, "b": -2.0}),)
        assert (again.usage.cached, again.usage.calls, again.usage.prompt_tokens) == (1, 0, 0)
        other = Cached(Scripted(script, name="other"), tmp_path / "a" / "answers.sqlite")
        assert (await other.ask(request())).text == "6"
        await again.aclose()
        await other.aclose()

    asyncio.run(main())


def test_a_file_that_is_no_cache_is_refused(tmp_path) -> None:
    (tmp_path / "answers.sqlite").write_text("not a database, but long enough to be read as one " * 30)
    with pytest.raises(StoreError, match=r"answers.sqlite.*not a usable answer cache"):
        Cached(Scripted(lambda _: "x"), tmp_path / "answers.sqlite")


_WRITER = """
import asyncio, sys
from pathlib import Path
from traitrl.chat import Cached, ChatRequest, Scripted
from traitrl.core import Message
async def main(first):
    model = Cached(Scripted(lambda asked: asked.messages[-1].content * 50), Path(sys.argv[1]))
    for n in range(first, 100000):
        await model.ask(ChatRequest(messages=(Message(role="user", content=f"question {n}"),)))
        print(n, flush=True)
asyncio.run(main(int(sys.argv[2])))
"""


def test_two_processes_share_a_cache_and_one_is_killed(tmp_path) -> None:
    path = tmp_path / "answers.sqlite"
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(path), str(first)], stdout=subprocess.PIPE, text=True)
        for first in (0, 50_000)
    ]
    said: list[int] = []
    for writer in writers:  # both are at work
        assert writer.stdout is not None
        said += [int(writer.stdout.readline()) for _ in range(30)]
    os.kill(writers[0].pid, signal.SIGKILL)
    rest = writers[0].communicate()[0]
    said += [int(line) for line in rest.split("\n")[:-1] if line]
    assert writers[1].stdout is not None
    said += [int(writers[1].stdout.readline()) for _ in range(30)]  # the other one goes on
    os.kill(writers[1].pid, signal.SIGKILL)
    writers[1].communicate()
    disk = sqlite3.connect(path)
    assert disk.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    disk.close()

    async def main() -> None:
        calls: list[ChatRequest] = []
        model = Cached(Scripted(lambda asked: calls.append(asked) or "new"), path)
        for number in said:  # whatever a process had reported is there, and is not asked again
            reply = await model.ask(request(f"question {number}"))
            assert reply.text == f"question {number}" * 50
        assert not calls
        await model.aclose()

    asyncio.run(main())


def test_results_come_in_order_and_items_are_drawn_as_they_are_needed() -> None:
    drawn: list[int] = []
    running = most = 0

    def source():
        for n in range(50):
            drawn.append(n)
            yield n

    async def work(n: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (5 - n % 5))
        running -= 1
        return n * n

    async def main() -> None:
        seen = 0
        async for item, result in in_order(source(), work, concurrency=4):
            assert (item, result) == (seen, seen * seen)
            seen += 1
            assert len(drawn) <= seen + 4
        assert seen == 50

    asyncio.run(main())
    assert most == 4


def test_a_failing_item_cancels_the_others() -> None:
    cancelled: list[int] = []

    async def work(n: int) -> int:
        if n == 0:
            await asyncio.sleep(0.01)
            raise ChatError("scripted", 1, "no")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(n)
            raise
        return n

    async def main() -> None:
        async for _ in in_order(range(9), work, concurrency=3):
            pass

    with pytest.raises(ChatError):
        asyncio.run(main())
    assert cancelled == [1, 2]


def test_price() -> None:
    usage = Usage(prompt_tokens=2_000_000, reply_tokens=500_000)
    assert Price(prompt_usd=1.5, reply_usd=8.0).of_usage(usage) == 7.0
