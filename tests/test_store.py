"""Stage folders: nothing half-written, nothing mixed up, nothing lost."""

import errno
import json
import multiprocessing
import os
from pathlib import Path

import pytest

from traitrl.core import Message, StoreError
from traitrl.store import (
    Claim,
    StageFolder,
    digest_file,
    digest_json,
    exclusive,
    read_jsonl,
    write_bytes_atomic,
    write_json_atomic,
    write_jsonl,
)


def stage(path: Path, **config: object) -> StageFolder:
    return StageFolder(path, Claim(stage="demo", config=dict(config), inputs={"in": "d1"}))


def test_a_finished_stage_is_skipped_and_its_outputs_are_digested(tmp_path: Path) -> None:
    folder = stage(tmp_path / "s", a=1)
    assert not folder.is_done()
    write_json_atomic(folder.path / "out.json", {"x": 1})
    manifest = folder.finish(["out.json"], seeds=(3,))
    assert manifest.outputs == {"out.json": digest_file(folder.path / "out.json")}
    assert stage(tmp_path / "s", a=1).is_done()


def test_another_configuration_is_refused_with_the_differing_fields(tmp_path: Path) -> None:
    stage(tmp_path / "s", a=1, nested={"b": 2}).is_done()
    write_json_atomic(tmp_path / "s" / "keep.json", 1)
    with pytest.raises(StoreError, match=r"config\.nested\.b \(2 there, 3 now\)") as caught:
        stage(tmp_path / "s", a=1, nested={"b": 3}).is_done()
    assert "config.a" not in str(caught.value) and "\n" not in str(caught.value)
    assert (tmp_path / "s" / "keep.json").exists()
    assert not stage(tmp_path / "s", a=1, nested={"b": 3}).is_done(force=True)
    assert not (tmp_path / "s" / "keep.json").exists()


def test_an_unfinished_stage_is_continued_not_wiped(tmp_path: Path) -> None:
    stage(tmp_path / "s", a=1).is_done()
    write_json_atomic(tmp_path / "s" / "partial.json", 1)
    assert not stage(tmp_path / "s", a=1).is_done(force=True)
    assert (tmp_path / "s" / "partial.json").exists()


def test_a_strangers_folder_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "thesis.tex").write_text("years of work")
    for force in (False, True):
        with pytest.raises(StoreError, match="not a stage folder"):
            stage(tmp_path / "s").is_done(force=force)
    assert (tmp_path / "s" / "thesis.tex").read_text() == "years of work"


def test_a_cut_off_line_is_named(tmp_path: Path) -> None:
    rows = [Message(role="user", content=f"m{i}") for i in range(3)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "rows.jsonl", Message) == rows
    text = (tmp_path / "rows.jsonl").read_text()
    (tmp_path / "rows.jsonl").write_text(text[:-9])
    with pytest.raises(StoreError, match=r"rows\.jsonl:3: "):
        read_jsonl(tmp_path / "rows.jsonl", Message)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_or_a_lack_of_permission_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = tmp_path / "file"
    write_bytes_atomic(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match=os.strerror(code)):
        write_bytes_atomic(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def _try_to_hold(folder: str, answer: "multiprocessing.Queue[str]") -> None:
    try:
        with exclusive(Path(folder)):
            answer.put("held")
    except StoreError as error:
        answer.put(str(error))


def test_two_processes_never_share_a_study_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    with exclusive(tmp_path):
        child = context.Process(target=_try_to_hold, args=(str(tmp_path), answer))
        child.start()
        assert "in use by another" in answer.get(timeout=60)
        child.join()
    with exclusive(tmp_path):
        pass


def test_digests_ignore_key_order_only() -> None:
    assert digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1}) != digest_json({"a": 1, "b": 3})


def test_json_is_written_the_same_way_every_time(tmp_path: Path) -> None:
    write_json_atomic(tmp_path / "a", {"b": 1, "a": [1.5]})
    write_json_atomic(tmp_path / "b", json.loads('{"a": [1.5], "b": 1}'))
    assert digest_file(tmp_path / "a") == digest_file(tmp_path / "b")
