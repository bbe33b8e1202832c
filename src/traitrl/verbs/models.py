"""Flags that name a model behind HTTP, and what it costs."""

from __future__ import annotations

import argparse
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

    from traitrl.chat import ChatModel, Price, Usage
    from traitrl.chat.scripted import Script
    from traitrl.judging import Scorer

_Settings = TypeVar("_Settings", bound="BaseModel")


def add_model(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """``--model`` and what goes with it."""
    parser.add_argument(
        "--model", required=required, help="a model's name at its endpoint, or 'scripted' (the shipped fake)"
    )
    parser.add_argument(
        "--base-url", default="https://api.openai.com/v1", help="an OpenAI-compatible endpoint, up to /v1"
    )
    parser.add_argument(
        "--key-env", default="OPENAI_API_KEY", metavar="NAME", help="environment variable of the key; '' sends none"
    )
    parser.add_argument("--concurrency", type=int, default=16, help="questions in flight (default 16)")
    parser.add_argument(
        "--structured",
        default="json_schema",
        choices=["json_schema", "json_object", "none"],
        help="what the endpoint supports",
    )
    parser.add_argument(
        "--price", type=float, nargs=2, metavar=("IN", "OUT"), help="US dollars per million tokens, prompt and reply"
    )


def add_judge(parser: argparse.ArgumentParser) -> None:
    """``--judge``, with a model behind it where it needs one."""
    parser.add_argument("--judge", default="", help="'rules', or a judge of the catalog together with --model")
    add_model(parser, required=False)


def open_model(args: argparse.Namespace, script: Script) -> ChatModel:
    """The model of ``--model``; ``script`` is what 'scripted' answers with."""
    from traitrl.chat import Endpoint, OpenAICompatible, Scripted

    if args.model == "scripted":
        return Scripted(script)
    return OpenAICompatible(_from_flags(Endpoint, {"model": args.model, **_flags(args)}))


def _flags(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags say of the endpoint, by the names of its fields."""
    return {field: getattr(args, field) for field in ("base_url", "key_env", "concurrency", "structured")}


def _from_flags(kind: type[_Settings], settings: dict[str, Any]) -> _Settings:
    """The settings, validated; raises :class:`ConfigError` naming the flag that cannot be."""
    from pydantic import ValidationError

    from traitrl.core import ConfigError

    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        flag = str(first["loc"][0]).replace("_", "-") if first["loc"] else "judge"
        raise ConfigError(f"--{flag}: {first['msg']}") from None


def open_judge(args: argparse.Namespace) -> Scorer | None:
    """The judge of ``--judge``, None without one."""
    return JudgeMaker(args, args.judge, None).make(0) if args.judge else None


class JudgeMaker:
    """Makes the judge that the flags name, for each repeat of a question; all repeats share one model and one cache."""

    def __init__(self, args: argparse.Namespace, name: str, cache: Path | None) -> None:
        """``cache`` is where answers are kept, None for nowhere."""
        from traitrl.core import ConfigError
        from traitrl.judging import JudgeChoice, check_judge

        if args.model == "scripted":
            raise ConfigError("the scripted model writes scenarios and cannot judge; give another --model")
        named = {"name": name, "model": args.model or "", "cache": cache is not None}
        self._choice = _from_flags(JudgeChoice, named | _flags(args))
        check_judge(self._choice, args.catalog)
        self._args, self._cache = args, cache

    @property
    def digest(self) -> str:
        """What its grades depend on."""
        return self._choice.identity(self._args.catalog)

    @cached_property
    def _judge(self) -> Scorer:
        """Made when it is first needed: its cache lies in a folder that a stage must have claimed before."""
        from traitrl.judging import make_judge

        return make_judge(self._choice, self._args.catalog, self._cache or Path())

    def make(self, repeat: int) -> Scorer:
        """The judge for the n-th repeat."""
        from traitrl.judging import ModelScorer

        return self._judge.repeated(repeat) if isinstance(self._judge, ModelScorer) else self._judge

    def usage(self) -> Usage | None:
        """Totals of the model behind it, None without one."""
        from traitrl.judging import ModelScorer

        return self._judge.model.usage if isinstance(self._judge, ModelScorer) else None

    def cost(self) -> float | None:
        """Dollars spent, None when nobody gave a price."""
        usage = self.usage()
        return Spending(self._args).of(usage) if usage else 0.0


class Spending:
    """Says what tokens cost, before and during a run."""

    def __init__(self, args: argparse.Namespace) -> None:
        """The price of ``--price``, else of the catalog's models.toml."""
        from traitrl.catalog.prices import load_prices
        from traitrl.chat import Price

        self._price: Price | None = (
            Price(prompt_usd=args.price[0], reply_usd=args.price[1])
            if args.price
            else load_prices(args.catalog).get(args.model)
        )
        self._shown = ""

    def of(self, usage: Usage) -> float | None:
        """Dollars of what was sent, None without a price."""
        return None if self._price is None else self._price.of_usage(usage)

    def text(self, prompt_tokens: int, reply_tokens: int) -> str:
        """``about $1.23``, or that nobody gave a price."""
        if self._price is None:
            return "cost unknown (give --price or a models.toml)"
        return f"${self._price.of(prompt_tokens, reply_tokens):.2f}"

    def on_item(self, done: int, total: int, usage: Usage) -> None:
        """One line of progress with the cost so far: rewritten in a terminal, every tenth in a log."""
        line = f"{done} of {total}, {usage.calls} calls, {self.text(usage.prompt_tokens, usage.reply_tokens)} so far"
        if sys.stderr.isatty():
            print(f"\r{line}", end="\n" if done == total else "", file=sys.stderr)
        elif done == total or done % max(1, total // 10) == 0:
            print(line, file=sys.stderr)
