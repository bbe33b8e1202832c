"""Weights are checked before anything is computed with them."""

import json
import shutil
from pathlib import Path

import pytest

from traitrl.core import WeightsError
from traitrl.pocket.world import PRIORS_DIR
from traitrl.weights import check_weights

PRIOR = PRIORS_DIR / "coherent"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PRIOR, tmp_path / "model"))


def test_shipped_priors_are_intact() -> None:
    for name in ("coherent", "incoherent"):
        digests = check_weights(str(PRIORS_DIR / name))
        assert digests == json.loads((PRIORS_DIR / name / "weights.json").read_text())


def test_hub_names_pass_and_missing_folders_do_not(tmp_path: Path) -> None:
    assert check_weights("some-org/some-model") == {"hub": "some-org/some-model"}
    with pytest.raises(WeightsError, match="no model at"):
        check_weights(str(tmp_path / "absent"))
    with pytest.raises(WeightsError, match="not a model folder"):
        check_weights(str(tmp_path))


def test_a_changed_byte_is_named_with_its_digest(copy: Path) -> None:
    path = copy / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(WeightsError, match=r"sha256 is [0-9a-f]{16}, expected [0-9a-f]{16}"):
        check_weights(str(copy))


@pytest.mark.parametrize("keep", [0, 4, 100, -1000])
def test_a_cut_off_file_is_refused_also_without_listed_digests(copy: Path, keep: int) -> None:
    (copy / "weights.json").unlink()
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"damaged|cut off"):
        check_weights(str(copy))
