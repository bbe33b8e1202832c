"""How all tests run: one thread each, the dearest first, the same examples every time, and no torch among the fast ones."""

import gc
import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's waiting threads spin: two in a process are slower than one
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# The same examples every time, and blind to the clock: a machine that is busy is no failure.
settings.register_profile(
    "tests", max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")

# Whole studies. Side by side, whoever is free takes the next file: if one of these came last, a single worker would be
# busy with it while the other has nothing left to do.
DEAREST = (
    "test_claims",
    "test_lasting_claims",
    "test_study",
    "test_judged_study",
    "test_persist_verb",
    "test_persistence",
    "test_engine",
)

# Inspect 0.3.285 opens a stream for the events of each sample and never closes the end that receives (start_sample_event_emitter
# in hooks/_hooks.py): hundreds of warnings among which a leak of ours would be overlooked.
INSPECT_LEAK = pytest.mark.filterwarnings("ignore:Unclosed <MemoryObjectReceiveStream:ResourceWarning")


def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (*DEAREST, item.path.stem).index(item.path.stem))
    session.add_marker(INSPECT_LEAK)  # of all marks the session's have the last word


@pytest.fixture(scope="module", autouse=True)
def tidy(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a module leaves unclosed comes to light under its own filters of warnings, and not in whatever runs next."""
    yield
    gc.collect()
    if not any(item.get_closest_marker("slow") for item in request.session.items):
        assert "torch" not in sys.modules, f"a test imports torch: mark it slow (seen after {request.path.name})"
