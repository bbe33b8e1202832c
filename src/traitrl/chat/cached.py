"""Answers kept in SQLite, so that a question that was paid for is never paid for again. Safe under many processes.

Write-ahead logging lets readers and one writer work side by side; a killed process loses at most the answer it was writing.
Only answers are kept. A failure is asked again next time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from dataclasses import asdict, replace
from pathlib import Path

from traitrl.chat.exchange import ChatModel, ChatReply, ChatRequest, Usage
from traitrl.core import StoreError
from traitrl.store import clear_os_errors

_BUSY_MILLISECONDS = 60_000
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, model TEXT NOT NULL, reply TEXT NOT NULL) WITHOUT ROWID"
)


class Cached:
    """A model in front of ``inner`` that remembers. See :class:`traitrl.chat.ChatModel`."""

    def __init__(self, inner: ChatModel, path: Path) -> None:
        """Raises :class:`StoreError` when ``path`` holds something that is no such cache."""
        self._inner = inner
        self._path = path
        self._usage = Usage()
        self._pending: dict[str, asyncio.Future[ChatReply]] = {}
        self._disk: sqlite3.Connection | None = None
        self._connect()

    @property
    def name(self) -> str:
        """See :class:`traitrl.chat.ChatModel`."""
        return self._inner.name

    @property
    def identity(self) -> str:
        """See :class:`traitrl.chat.ChatModel`."""
        return self._inner.identity

    @property
    def usage(self) -> Usage:
        """Calls and failures are the inner model's; answers that came from disk are counted as cached."""
        inner = self._inner.usage
        return replace(
            self._usage,
            calls=inner.calls,
            prompt_tokens=inner.prompt_tokens,
            reply_tokens=inner.reply_tokens,
            failures=inner.failures,
        )

    async def ask(self, request: ChatRequest) -> ChatReply:
        """See :class:`traitrl.chat.ChatModel`. Equal questions in flight at the same time are asked once."""
        key = request.key(self._inner.identity)
        reply = self._read(key)
        if reply is None and key in self._pending:
            reply = replace(await asyncio.shield(self._pending[key]), cached=True)
        if reply is None:
            reply = await self._fetch(key, request)
        self._usage.add(reply)
        return reply

    async def aclose(self) -> None:
        """See :class:`traitrl.chat.ChatModel`."""
        await self._inner.aclose()
        if self._disk is not None:
            self._disk.close()
            self._disk = None

    async def _fetch(self, key: str, request: ChatRequest) -> ChatReply:
        future: asyncio.Future[ChatReply] = asyncio.get_running_loop().create_future()
        self._pending[key] = future
        try:
            reply = await self._inner.ask(request)
            self._write(key, reply)
            future.set_result(reply)
            return reply
        except BaseException as error:
            if isinstance(error, Exception):
                future.set_exception(error)
                future.exception()  # nobody may be waiting, and that is no mistake
            else:
                future.cancel()
            raise
        finally:
            del self._pending[key]

    def _connect(self) -> sqlite3.Connection:
        if self._disk is None:
            with clear_os_errors(self._path, "create"):
                self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._clear_errors():
                # A trainer asks from a thread of its own. SQLite serialises, and one loop at a time uses a model.
                disk = sqlite3.connect(
                    self._path, timeout=_BUSY_MILLISECONDS / 1000, isolation_level=None, check_same_thread=False
                )
                disk.execute("PRAGMA journal_mode=WAL")
                disk.execute("PRAGMA synchronous=NORMAL")
                disk.execute(_SCHEMA)
                self._disk = disk
        return self._disk

    def _read(self, key: str) -> ChatReply | None:
        with self._clear_errors():
            row = self._connect().execute("SELECT reply FROM answers WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        data = json.loads(row[0])
        data["logprobs"] = tuple((token, dict(tops)) for token, tops in data["logprobs"])
        return ChatReply(**{**data, "cached": True})

    def _write(self, key: str, reply: ChatReply) -> None:
        text = json.dumps(asdict(reply), ensure_ascii=False)
        with self._clear_errors():
            self._connect().execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", (key, self._inner.name, text))

    @contextlib.contextmanager
    def _clear_errors(self):
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(
                f"{self._path}: {error}; not a usable answer cache, move it away or run without"
            ) from error
