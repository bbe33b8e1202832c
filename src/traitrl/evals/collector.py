"""Python's garbage collector while an eval runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_THRESHOLD = (50_000, 20, 100)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Collect garbage rarely, and pass over what is alive already.

    Inspect makes some hundred objects for each sample and keeps them until the log is written. At its usual thresholds the
    collector walks these, and everything that was imported, again and again: a fifth of the time of an eval of a small model.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*_THRESHOLD)
    try:
        yield
    finally:
        gc.collect()  # of what the eval itself made, while the rest is still frozen; or one eval's garbage outlives many
        gc.set_threshold(*before)
        gc.unfreeze()
