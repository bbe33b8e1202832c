"""A local OpenAI-compatible server that can misbehave on request, and counts what it was asked."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

Answer = Callable[[dict[str, Any]], str]
Fault = str  # one of FAULTS, or "" for a proper answer
FAULTS = ("reset", "429", "429-after", "429-date", "500", "hang", "half", "not-json", "no-choices", "null")


def completion(text: str, finish: str = "stop") -> dict[str, Any]:
    return {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 7, "completion_tokens": len(text.split())},
    }


class Unruly:
    """``plan(n, payload)`` names the fault of the n-th request; ``answer(payload)`` is the text of a proper reply."""

    def __init__(self, answer: Answer, plan: Callable[[int, dict[str, Any]], Fault] = lambda n, payload: "") -> None:
        self.answer, self.plan = answer, plan
        self.requests = 0
        self.served: Counter[str] = Counter()
        self.payloads: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.in_flight = self.most_in_flight = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        payload = await request.json()
        number, self.requests = self.requests, self.requests + 1
        self.payloads.append(payload)
        self.headers.append(dict(request.headers))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            fault = self.plan(number, payload)
            self.served[fault or "ok"] += 1
            return await self._reply(request, payload, fault)
        finally:
            self.in_flight -= 1

    async def _reply(self, request: web.Request, payload: dict[str, Any], fault: Fault) -> web.StreamResponse:
        if fault.startswith("late "):
            await asyncio.sleep(0.1)
            fault = fault.removeprefix("late ")
        if fault == "reset":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault.startswith("429"):
            headers = {
                "429": {},
                "429-after": {"Retry-After": "0.01"},
                "429-date": {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"},
            }
            return web.Response(status=429, text="slow down", headers=headers[fault])
        if fault.isdigit():
            return web.Response(status=int(fault), text=f"no: {request.headers.get('Authorization', '')}")
        body = json.dumps(completion(self.answer(payload))).encode()
        if fault == "half":
            response = web.StreamResponse(
                headers={"Content-Length": str(len(body)), "Content-Type": "application/json"}
            )
            await response.prepare(request)
            await response.write(body[: len(body) // 2])
            assert request.transport is not None
            request.transport.abort()
            return response
        bad = {"not-json": b"<html>busy</html>", "no-choices": b'{"choices": []}', "null": b"null"}
        return web.Response(body=bad.get(fault, body), content_type="application/json")


@asynccontextmanager
async def serve(unruly: Unruly) -> AsyncIterator[str]:
    """The base URL of a running server."""
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/chat/completions", unruly.handle)
    server = TestServer(app)
    await server.start_server(shutdown_timeout=0.1)
    try:
        yield str(server.make_url("/v1"))
    finally:
        await server.close()


@contextmanager
def running(unruly: Unruly) -> Iterator[str]:
    """The same in a thread of its own, for callers that block theirs."""
    ready, done, urls = threading.Event(), threading.Event(), []

    async def main() -> None:
        async with serve(unruly) as url:
            urls.append(url)
            ready.set()
            while not done.is_set():
                await asyncio.sleep(0.02)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield urls[0]
    finally:
        done.set()
        thread.join(10)
