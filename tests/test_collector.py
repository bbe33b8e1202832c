"""Python's collector is kept still while an eval runs, and leaves nothing of it behind."""

import gc
import weakref

import pytest

from traitrl.evals.collector import rare_collections


class Knot:
    """Garbage that only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


def test_what_an_eval_leaves_is_collected_at_its_end_even_when_it_fails() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with pytest.raises(KeyError), rare_collections():
        assert gc.get_threshold() != before and gc.get_freeze_count() > frozen
        left = weakref.ref(Knot())
        kept = Knot()
        raise KeyError
    assert left() is None and kept.itself is kept
    assert gc.get_threshold() == before and gc.get_freeze_count() == 0
