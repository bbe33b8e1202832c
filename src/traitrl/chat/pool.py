"""Many questions at once, few in memory: bounded concurrency that hands results on in the order of the questions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")


async def in_order(
    items: Iterable[_In], work: Callable[[_In], Awaitable[_Out]], concurrency: int
) -> AsyncIterator[tuple[_In, _Out]]:
    """``(item, await work(item))`` for each item, in order, with at most ``concurrency`` at work and no more items drawn.

    When one raises, or the caller stops listening, the others are cancelled before this returns.
    """
    queue: list[tuple[_In, asyncio.Task[_Out]]] = []
    source = iter(items)
    try:
        while True:
            while len(queue) < concurrency:
                try:
                    item = next(source)
                except StopIteration:
                    break
                queue.append((item, asyncio.ensure_future(_run(work, item))))
            if not queue:
                return
            item, task = queue.pop(0)
            try:
                result = await task
            except BaseException:
                task.cancel()
                raise
            yield item, result
    finally:
        for _, task in queue:
            task.cancel()
        await asyncio.gather(*(task for _, task in queue), return_exceptions=True)


async def _run(work: Callable[[_In], Awaitable[_Out]], item: _In) -> _Out:
    return await work(item)
