"""What pydantic finds wrong with data, in one line that somebody can act on."""

from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from traitrl.core.ids import nearest


def complaint(error: ErrorDetails, model: type[BaseModel]) -> str:
    """One complaint about data for ``model``: the key and what is wrong with it; for an unknown key, the nearest valid one."""
    loc = error["loc"]
    name = ".".join(str(part) for part in loc)
    if error["type"] == "extra_forbidden":
        return f"unknown key {name!r}{nearest(str(loc[-1]), _valid_keys(model, loc[:-1]))}"
    if error["type"] == "missing":
        return f"key {name!r} is missing"
    text = error["msg"].removeprefix("Value error, ")
    given = error["input"]
    shown = error["type"] != "value_error" and isinstance(given, str | int | float | bool)
    got = f", got {given!r:.60}" if shown else ""
    where = f"{name!r}: " if loc else ""
    return " ".join(f"{where}{text[:1].lower()}{text[1:]}{got}".split())


def first_complaint(error: ValidationError, model: type[BaseModel]) -> str:
    """The first of all complaints about data for ``model``; see :func:`complaint`."""
    return complaint(error.errors(include_url=False)[0], model)


def _valid_keys(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """The field names of the model that ``loc`` leads to from ``model``."""
    for part in loc:
        if isinstance(part, str) and part in model.model_fields:
            model = _inner_model(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    """The first pydantic model inside an annotation such as ``tuple[Model, ...]`` or ``Model | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _inner_model(part))), None)
