"""How a token is drawn on a CPU: one uniform number for each row instead of a number for every word of the vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@contextmanager
def quick_draws() -> Iterator[None]:
    """While it is open, ``torch.multinomial`` draws single samples on a CPU by inverting the cumulative distribution.

    Torch 2.13 draws an exponential number for every category of every row. The distribution is the same and the draws of a seed
    are other ones (docs/benchmarks.md has an RL step with both). Whatever is not one draw for each row of a CPU tensor is left
    to torch, and so is what it refuses.
    """
    import torch

    library = torch.multinomial

    def multinomial(input: torch.Tensor, num_samples: int, *options: Any, **named: Any) -> torch.Tensor:
        is_plain = num_samples == 1 and not options and not named
        if not is_plain or input.dim() != 2 or input.device.type != "cpu":
            return library(input, num_samples, *options, **named)
        return draw_one(input) if is_distribution(input) else library(input, num_samples)

    torch.multinomial = multinomial
    try:
        yield
    finally:
        torch.multinomial = library


def is_distribution(weights: torch.Tensor) -> bool:
    """Whether every row of ``weights`` (rows, categories) can be drawn from: none negative, their sum finite and above 0."""
    total = weights.sum(-1)
    return bool((weights.amin(-1) >= 0).all() and (total > 0).all() and total.isfinite().all())


def draw_one(weights: torch.Tensor) -> torch.Tensor:
    """One category for each row of ``weights`` (rows, categories), in proportion to them: int64 of shape (rows, 1).

    The first category whose cumulative weight lies above a uniform number below the row's total; a category of weight 0 never is.
    """
    import torch

    cumulative = weights.cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1:]
    mark = torch.rand(len(weights), 1, dtype=torch.float64) * total
    highest = torch.nextafter(total, torch.zeros_like(total))  # the product may round up to the total
    return torch.searchsorted(cumulative, torch.minimum(mark, highest), right=True)
