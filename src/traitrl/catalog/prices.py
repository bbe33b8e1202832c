"""``models.toml``: what models cost, from the package and from overlays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from traitrl.catalog.loader import PACKAGE_DATA, Problem, parse_toml
from traitrl.chat import Price
from traitrl.core import CatalogError, first_complaint


def load_prices(overlays: Sequence[Path] = ()) -> dict[str, Price]:
    """Prices by model name; an overlay adds or replaces. Raises :class:`CatalogError` for a malformed file."""
    prices: dict[str, Price] = {}
    for folder in (PACKAGE_DATA, *overlays):
        path = folder / "models.toml"
        if not path.exists():
            continue
        parsed = parse_toml(path)
        if isinstance(parsed, Problem):
            raise CatalogError(str(parsed))
        for name, entry in parsed.data.items():
            try:
                prices[name] = Price.model_validate(entry)
            except ValidationError as error:
                raise CatalogError(f"{path}: model {name!r}: {first_complaint(error, Price)}") from error
    return prices
