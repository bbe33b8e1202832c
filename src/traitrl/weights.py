"""Model weights by reference: a local folder in Hugging Face layout, or the name of a repository on a hub."""

from __future__ import annotations

import re
from pathlib import Path

from traitrl.core import WeightsError
from traitrl.store import digest_file, read_json

DIGESTS = "weights.json"  # optional: {file name: sha256}, shipped beside weights that must be exactly these
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model or adapter folder, sorted."""
    return sorted(folder.glob("*.safetensors"))


def check_weights(reference: str) -> dict[str, str]:
    """Digests of the weights behind ``reference``: {file: sha256} for a folder, {"hub": name} for a hub name.

    Raises :class:`WeightsError` when a folder lacks its configuration or weights, when a file does not open, or when its
    digest is not the one listed in the folder's ``weights.json``.
    """
    folder = Path(reference)
    if not folder.exists():
        if _HUB_NAME.fullmatch(reference):
            return {"hub": reference}
        raise WeightsError(f"no model at {reference}: give a folder in Hugging Face layout or a hub name like org/name")
    if not any((folder / name).exists() for name in ("config.json", "adapter_config.json")) or not weight_files(folder):
        raise WeightsError(f"{folder} is not a model folder: it needs config.json and *.safetensors")
    digests = {path.name: digest_file(path) for path in weight_files(folder)}
    if (folder / DIGESTS).exists():
        for name, wanted in read_json(folder / DIGESTS).items():
            found = digests.get(name, "missing")
            if found != wanted:
                raise WeightsError(f"{folder / name}: sha256 is {found[:16]}, expected {wanted[:16]}; restore the file")
    for path in weight_files(folder):
        _check_opens(path)
    return digests


def _check_opens(path: Path) -> None:
    """Read the header of a safetensors file: eight bytes of length, then JSON; the sizes must add up to the file's."""
    import json

    with path.open("rb") as handle:
        prefix = handle.read(8)
        length = int.from_bytes(prefix, "little")
        header = handle.read(length) if 0 < length < 100_000_000 else b""
    try:
        entries = json.loads(header)
        end = max(entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise WeightsError(f"{path}: damaged safetensors header; restore the file") from None
    if path.stat().st_size != 8 + length + end:
        size = path.stat().st_size
        raise WeightsError(
            f"{path}: {size} bytes on disk, {8 + length + end} expected; the file is cut off, restore it"
        )
