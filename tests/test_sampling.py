"""Tokens are drawn from the very distribution they should be, and only where the library's own draw is slow."""

from typing import Any

import pytest

from traitrl.sampling import draw_one, quick_draws

pytestmark = [pytest.mark.slow]


@pytest.fixture
def torch() -> Any:
    import torch

    return torch


def test_draws_follow_the_weights(torch: Any) -> None:
    from scipy.stats import chisquare

    torch.manual_seed(0)
    weights = torch.tensor([0.5, 0.0, 0.2, 1e-3, 0.299])
    rows = 50_000
    with quick_draws():
        drawn = torch.multinomial(weights.expand(rows, -1), num_samples=1)
    assert drawn.shape == (rows, 1) and drawn.dtype == torch.int64
    counts = torch.bincount(drawn[:, 0], minlength=5)
    assert counts[1] == 0 and counts.sum() == rows
    kept = weights > 0
    assert chisquare(counts[kept].numpy(), (weights[kept] / weights.sum() * rows).numpy()).pvalue > 0.001


def test_rows_are_drawn_independently_and_need_not_sum_to_one(torch: Any) -> None:
    torch.manual_seed(1)
    weights = torch.eye(7) * 3.5
    assert draw_one(weights)[:, 0].tolist() == list(range(7))
    pairs = draw_one(torch.ones(20_000, 2)).view(-1, 2)
    assert abs(torch.corrcoef(pairs.T.double())[0, 1].item()) < 0.03


@pytest.mark.parametrize("mark", [0.0, 1.0 - 2**-53])
def test_the_ends_of_the_scale_stay_on_categories_with_weight(
    torch: Any, mark: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = torch.tensor([[0.0, 0.3, 0.7, 0.0], [0.0, 1.1, 0.0, 0.0]])
    monkeypatch.setattr(torch, "rand", lambda *shape, dtype: torch.full(shape, mark, dtype=dtype))
    assert draw_one(weights)[:, 0].tolist() == ([1, 1] if mark == 0.0 else [2, 1])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_what_is_no_distribution_is_refused_as_before(torch: Any, bad: float) -> None:
    weights = torch.tensor([[0.5, 0.5], [bad, 2.0]])
    with quick_draws(), pytest.raises(RuntimeError, match="probability tensor contains"):
        torch.multinomial(weights, num_samples=1)
    with quick_draws(), pytest.raises(RuntimeError, match="invalid multinomial distribution"):
        torch.multinomial(torch.zeros(2, 3), num_samples=1)


def test_everything_else_is_the_librarys_own_and_comes_back(torch: Any) -> None:
    library, weights = torch.multinomial, torch.rand(4, 9)

    def drawn() -> list[Any]:
        generator = torch.Generator().manual_seed(3)
        torch.manual_seed(3)
        return [
            torch.multinomial(weights, 2),
            torch.multinomial(weights, 5, True),
            torch.multinomial(weights[0], 1),
            torch.multinomial(weights, 1, generator=generator),
        ]

    before = drawn()
    with pytest.raises(KeyError), quick_draws():
        assert all(torch.equal(one, other) for one, other in zip(before, drawn()))
        assert torch.multinomial is not library
        raise KeyError
    assert torch.multinomial is library
