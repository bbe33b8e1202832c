"""Files on disk: JSON lines, run folders with manifests, digests and atomic writes.

Every stage of a study is a folder. It is *claimed* by writing ``stage.json`` (its configuration and the digests of its
inputs) and *finished* by writing ``manifest.json``. A finished folder whose claim matches is skipped, a folder whose claim
differs is refused with the differing fields, and an unfinished one is continued. Nothing is ever half-written in place.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Generator, Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, Field, ValidationError

from traitrl.core import Frozen, GradeCount, StoreError, first_complaint

Row = TypeVar("Row", bound=BaseModel)
JsonObject = dict[str, Any]

CLAIM, MANIFEST = "stage.json", "manifest.json"
_WATCHED_LIBRARIES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "inspect-ai",
    "inspect-evals",
    "numpy",
    "scipy",
    "pandas",
    "altair",
)


@contextlib.contextmanager
def clear_os_errors(path: Path, doing: str) -> Generator[None]:
    """Turn an ``OSError`` (full disk, no permission, ...) into one line that names the path and what was being done."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        astray = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
        advice = "check the path" if astray else "free space or fix permissions"
        raise StoreError(f"cannot {doing} {path}: {reason}; {advice}, then run again") from error


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader, a kill or a full disk sees either the old file or the new one."""
    with clear_os_errors(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with scratch.open("wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)


def write_json_atomic(path: Path, value: Any) -> None:
    """``value`` as indented JSON with sorted keys, so that equal values are equal bytes."""
    write_bytes_atomic(path, (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Parse one JSON file; raises :class:`StoreError` naming the file."""
    with clear_os_errors(path, "read"):
        text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except ValueError as error:
        raise StoreError(f"{path}: not valid JSON ({error}); delete it and run again to rebuild it") from error


def dump_line(row: BaseModel | Mapping[str, Any]) -> str:
    """One JSON line for a row, without its line feed."""
    if isinstance(row, BaseModel):
        return row.model_dump_json()
    return json.dumps(row, ensure_ascii=False, sort_keys=True)


def write_jsonl(path: Path, rows: Iterable[BaseModel | Mapping[str, Any]]) -> None:
    """All rows, one JSON object a line, atomically."""
    write_bytes_atomic(path, "".join(dump_line(row) + "\n" for row in rows).encode())


def read_jsonl(path: Path, model: type[Row]) -> list[Row]:
    """Every row validated as ``model``; a malformed or cut-off line raises :class:`StoreError` with file and line."""
    with clear_os_errors(path, "read"):
        text = path.read_text(encoding="utf-8")
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(model.model_validate_json(line))
        except ValidationError as error:
            found = first_complaint(error, model)
            raise StoreError(
                f"{path}:{number}: {found}; the file may be cut off or damaged, restore or rebuild it"
            ) from error
    return rows


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with clear_os_errors(path, "read"), path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 of a JSON value's canonical form, in hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def digest_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Digest of each named file below ``folder``."""
    return {name: digest_file(folder / name) for name in sorted(names)}


@cache
def code_revision() -> str:
    """The commit of the working tree this package runs from, ``+changes`` when it is dirty, or the package version."""
    here = Path(__file__).resolve().parent
    git = shutil.which("git")
    if git:
        commands = (("rev-parse", "HEAD"), ("status", "--porcelain", "--", str(here)))
        done = [subprocess.run([git, "-C", str(here), *args], capture_output=True, text=True) for args in commands]
        if all(result.returncode == 0 for result in done):
            return done[0].stdout.strip() + ("+changes" if done[1].stdout.strip() else "")
    return f"traitrl {metadata.version('traitrl')}"


def library_versions() -> dict[str, str]:
    """Versions of the libraries that results depend on, where installed; nothing is imported."""
    versions: dict[str, str] = {}
    for name in _WATCHED_LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


class Claim(Frozen):
    """What a stage folder is for: the stage's name, its configuration and the digests of what it reads."""

    stage: str
    config: JsonObject
    inputs: dict[str, str] = Field(default_factory=dict)


class Manifest(Frozen):
    """What a finished stage did. ``outputs`` maps files to digests and is equal for equal runs; the rest is bookkeeping.

    ``grades`` says how judging went in a stage that judges replies, and is None in any other.
    """

    stage: str
    config_digest: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    revision: str
    versions: dict[str, str]
    seeds: tuple[int, ...] = ()
    wall_seconds: float = 0.0
    tokens: int = 0
    judge_calls: int = 0
    grades: GradeCount | None = None
    cost_usd: float = 0.0


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    """Paths at which two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        one, other = cast(JsonObject, old), cast(JsonObject, new)
        keys = sorted({*one, *other})
        return [
            line for key in keys for line in _differences(one.get(key), other.get(key), f"{where}.{key}".lstrip("."))
        ]
    return [] if old == new else [f"{where} ({json.dumps(old)[:60]} there, {json.dumps(new)[:60]} now)"]


class StageFolder:
    """One stage's folder: claim it, fill it, finish it."""

    def __init__(self, path: Path, claim: Claim) -> None:
        """``path`` need not exist; ``claim`` is what this run would put there."""
        self.path = path
        self.claim = Claim.model_validate_json(claim.model_dump_json())

    def is_done(self, *, force: bool = False) -> bool:
        """True when the folder holds this very stage, finished. Claims it otherwise.

        Raises :class:`StoreError` naming the differing fields when it holds another configuration, unless ``force``,
        which then deletes the folder. Only folders with a ``stage.json`` are ever deleted.
        """
        claim_path = self.path / CLAIM
        if claim_path.exists():
            held = read_claim(claim_path)
            differing = _differences(held.model_dump(mode="json"), self.claim.model_dump(mode="json"))
            if differing and not force:
                raise StoreError(
                    f"{self.path} was made by another configuration: {'; '.join(differing[:8])}; "
                    "use another --out, or --force to rebuild it"
                )
            if differing:
                with clear_os_errors(self.path, "delete"):
                    shutil.rmtree(self.path)
            elif (self.path / MANIFEST).exists():
                return True
        elif self.path.exists() and any(self.path.iterdir()):
            raise StoreError(f"{self.path} exists and is not a stage folder (no {CLAIM}); use another --out")
        write_json_atomic(claim_path, self.claim.model_dump(mode="json"))
        return False

    @property
    def has_same_settings(self) -> bool:
        """Whether the folder was made with these settings, from whatever inputs. False for an empty one."""
        claim_path = self.path / CLAIM
        return claim_path.exists() and read_claim(claim_path).config == self.claim.config

    def finish(self, outputs: Iterable[str], **book: Any) -> Manifest:
        """Write the manifest: from now on the stage is done. ``outputs`` are file names relative to the folder."""
        manifest = Manifest(
            stage=self.claim.stage,
            config_digest=digest_json(self.claim.config),
            inputs=self.claim.inputs,
            outputs=digest_files(self.path, outputs),
            revision=code_revision(),
            versions=library_versions(),
            **book,
        )
        write_json_atomic(self.path / MANIFEST, manifest.model_dump(mode="json"))
        return manifest


def read_claim(path: Path) -> Claim:
    """The claim in a ``stage.json``."""
    return Claim.model_validate(read_json(path))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished stage folder; raises :class:`StoreError` when it is missing or malformed."""
    try:
        return Manifest.model_validate(read_json(folder / MANIFEST))
    except ValidationError as error:
        raise StoreError(f"{folder / MANIFEST}: not a manifest; delete the folder and run again") from error


@contextlib.contextmanager
def exclusive(folder: Path) -> Generator[None]:
    """Hold the study folder for one process; a second one is refused at once. Released by the kernel when we die."""
    with clear_os_errors(folder, "create"):
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreError(
                f"{folder} is in use by another traitrl process; wait for it or use another --out"
            ) from error
        yield
