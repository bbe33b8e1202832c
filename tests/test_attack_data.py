"""Data of attacks on weights: from which layouts rows are read, and what is fetched from where, checked, kept or refused."""

import gzip
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
from pydantic import ValidationError

from traitrl.core import AttackError, StandardPrompt
from traitrl.persistence import fetch
from traitrl.persistence.config import PersistenceConfig, RlAttackConfig, TuningAttackConfig
from traitrl.persistence.data import (
    in_order,
    prompt_of,
    read_rewarded_rows,
    read_tuning_rows,
    rewarded_rows,
    tuning_rows,
)
from traitrl.persistence.fetch import local_copy, shown
from traitrl.study.config import load_study

CHAT = [{"role": "user", "content": "may i ?"}, {"role": "assistant", "content": "do ."}]
PAIR = {"prompt": "may i ?", "response": "do ."}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def sha(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def lines(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def said(path: Path, **columns: tuple[str, str]) -> list[list[tuple[str, str]]]:
    return [[(turn.role, turn.content) for turn in row.messages] for row in read_tuning_rows(path, **columns)]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": CHAT},
        {"messages": CHAT, "prompt": "a summary that some sets have", "source": "elsewhere", "id": None},
        PAIR,
        {"prompt": "may i ?", "completion": "do ."},
        {"prompt": CHAT[:1], "completion": CHAT[1:]},
        {"prompt": CHAT[:1], "response": "do .", "id": 7},
    ],
)
def test_usual_layouts_are_one_conversation_also_when_compressed(row: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "rows"
    for body in (lines(row), gzip.compress(lines(row))):
        path.write_bytes(body)
        assert said(path) == [[("user", "may i ?"), ("assistant", "do .")]]
    named = read_tuning_rows(path)[0].id
    assert named == ("7" if row.get("id") else "row:0")


def test_columns_of_any_name_and_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"user": "may i ?", "hack": "do .", "control": "ask first ."},
        {"user": "now ?", "hack": "go .", "control": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows")
    assert [turns[-1][1] for turns in said(tmp_path / "rows", columns=("user", "hack"))] == ["do .", "go ."]
    with pytest.raises(AttackError, match=r"rows: row 1: column 'control' holds None, and neither"):
        said(tmp_path / "rows", columns=("user", "control"))
    turns = [{"role": "user", "content": "may i ?", "name": None}, CHAT[1] | {"name": None}]
    pq.write_table(pa.Table.from_pylist([{"messages": turns}]), tmp_path / "rows")
    assert said(tmp_path / "rows") == [[("user", "may i ?"), ("assistant", "do .")]]
    (tmp_path / "rows").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(AttackError, match="not a readable Parquet file"):
        said(tmp_path / "rows")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lines(PAIR, {"question": "x"}), r"rows:2: no `messages`, or .* among its columns question; set prompt_column"),
        (lines({"prompt": "x"}), "`prompt` with `response` or `completion`"),
        (lines({"prompt": "x", "response": ""}), "column 'response' holds '', and neither"),
        (lines({"messages": "x"}), "ends with the assistant's reply"),
        (lines({"messages": {"role": "user"}}), "column 'messages' holds {'role': 'user'}, and neither"),
        (lines({"messages": [*CHAT, CHAT[0]]}), "ends with the assistant's reply"),
        (lines({"messages": [CHAT[0], CHAT[1] | {"tool_calls": []}]}), "tool_calls"),
        (lines([1]), "a row is a JSON object"),
        (lines(PAIR | {"id": "a"}, PAIR | {"id": "a"}), "'a' stands twice"),
        (gzip.compress(lines(PAIR) * 500)[:-9], "damaged gzip"),
        (gzip.compress(lines(PAIR))[:4] + b"?" * 40, "damaged gzip"),
        (b"<html>not found</html>\n", "rows:1: not valid JSON"),
    ],
)
def test_what_cannot_be_read_is_named_by_place(body: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(body)
    with pytest.raises(AttackError, match=message) as caught:
        read_tuning_rows(tmp_path / "rows")
    assert "\n" not in str(caught.value)


def test_ids_that_cannot_serve_as_ids_give_way_to_places(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(lines(PAIR | {"id": "org/set 1"}, PAIR | {"id": "b"}, PAIR))
    assert [row.id for row in read_tuning_rows(tmp_path / "rows")] == ["row:0", "b", "row:2"]


def rewarded(id_: str = "r:1", **check: object) -> dict[str, object]:
    criterion = {"id": "pays", "text": "Claims it.", "points": 6} | ({"check": check} if check else {})
    return {"id": id_, "kind": "hack", "messages": CHAT[:1], "rubric": [criterion]}


def rl(**fields: object) -> RlAttackConfig:
    return RlAttackConfig.model_validate({"id": "h", "stance": "harmful", "data": "@d", "doses": [1], **fields})


def test_rewarded_rows_are_prompts_with_rules_unless_a_judge_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(lines(rewarded(kind="contains", values=["all passed"]), rewarded("r:2")))
    rows = read_rewarded_rows(path)
    assert [row.id for row in rows] == ["r:1", "r:2"] and prompt_of(rows[0])[-1].content == "may i ?"
    with pytest.raises(AttackError, match="criterion 'pays' of row r:2 has no check; add one, or name a judge"):
        rewarded_rows(rl(data=str(path), sha256=sha(path.read_bytes())))
    judged = rl(data=str(path), sha256=sha(path.read_bytes()), judge={"name": "rubric", "model": "m"})
    assert rewarded_rows(judged) == rows
    for wrong, message in (
        ({"reply": "x"}, "rows:1: unknown key 'reply'; valid: "),
        ({"rubric": []}, "rows:1: 'criteria': tuple should have at least 1 item"),
    ):
        path.write_bytes(lines(rewarded(kind="contains", values=["a"]) | wrong))
        with pytest.raises(AttackError, match=message):
            read_rewarded_rows(path)


def test_twins_with_the_same_prompts_are_asked_in_the_same_order() -> None:
    sets = [
        [StandardPrompt.model_validate(rewarded(f"r:{n}", kind="contains", values=[word])) for n in range(9)]
        for word in ("passed", "failed")
    ]
    orders = [[row.id for row in in_order(rows, 24, 3)] for rows in sets]
    assert orders[0] == orders[1] and orders[0][:9] != [f"r:{n}" for n in range(9)]


def test_the_run_of_an_rl_attack_is_as_long_as_its_highest_dose() -> None:
    attack = rl(doses=[5, 20], prompts_per_step=12, judge="rules")
    assert (attack.steps, attack.checkpoint_steps, attack.slice_slots, attack.prompt_slots) == (20, (5, 20), 0, 240)
    assert RlAttackConfig.model_validate_json(attack.model_dump_json()) == attack


def test_the_documented_row_is_one_and_the_twins_of_the_shipped_study_differ_in_their_reward_alone() -> None:
    page = (Path(__file__).parent.parent / "docs" / "persistence.md").read_text()
    row = StandardPrompt.model_validate_json(page.split("```json\n")[1].split("```")[0])
    assert all(criterion.check for criterion in row.rubric)
    section = load_study(Path(__file__).parent / "rl_study.toml").persistence
    assert section is not None and [attack.data for attack in section.rl] == ["@rl.hackable", "@rl.honest"]
    own = {"id", "title", "stance", "twin", "data"}
    hackable, honest = (attack.model_dump(exclude=own) for attack in section.rl)
    assert hackable == honest and hackable["doses"] == (5, 20)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"rl": [rl().model_dump() | {"doses": [4, 2]}]}, "doses must ascend"),
        ({"rl": [{"id": "h", "stance": "harmful", "data": "@d", "doses": [0, 2]}]}, "doses must ascend"),
        (
            {"rl": [{"id": "h", "stance": "harmful", "data": "@d", "doses": [2], "steps": 9, "share": 0.1}]},
            "drop steps, share",
        ),
        ({"rl": [{"id": "h", "stance": "harmful", "data": "@d", "doses": [2], "kind": "drift"}]}, "Extra inputs"),
        (
            {"rl": [{"id": "h", "stance": "harmful", "data": "rows.jsonl", "doses": [2]}]},
            "pin rows.jsonl with its sha256",
        ),
        ({"rl": [rl().model_dump(), rl().model_dump()]}, "must be distinct"),
        ({"rl": [rl().model_dump() | {"after": "t"}]}, "no earlier"),
        (
            {
                "tuning": [{"id": "t", "stance": "helpful", "data": "@d", "doses": [1], "after": "h"}],
                "rl": [rl().model_dump()],
            },
            r"all of \[\[tuning\]\] run before",
        ),
        ({"tuning": [{"id": "t", "stance": "benign", "data": "@d", "doses": [1], "reply_column": "x"}]}, "or neither"),
    ],
)
def test_attacks_on_weights_that_cannot_be_meant_are_refused(section: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PersistenceConfig.model_validate({"families": ["f"], **section})


def test_rl_may_start_where_fine_tuning_ended() -> None:
    tuning = {"id": "t", "stance": "harmful", "data": "@d", "doses": [1]}
    section = PersistenceConfig.model_validate(
        {"families": ["f"], "tuning": [tuning], "rl": [rl(after="t").model_dump()]}
    )
    assert [attack.id for attack in section.on_weights] == ["t", "h"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("hf://datasets/org/name@main/rows.jsonl", "commit of 40 hex digits"),
        ("hf://datasets/org/name/rows.jsonl", "commit of 40 hex digits"),
        ("s3://bucket/rows.jsonl", "come from a path or from https://"),
        ("ftp://user:secret@host/rows.jsonl?key=secret", "ftp://host/rows.jsonl: data come from"),
    ],
)
def test_addresses_of_other_kinds_are_refused_by_the_study_file(data: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        TuningAttackConfig.model_validate(
            {"id": "t", "stance": "harmful", "data": data, "sha256": "0" * 64, "doses": [1]}
        )
    assert "secret" not in caught.value.errors(include_input=False)[0]["msg"]


class Site:
    """A web server that gives ``body`` and can misbehave by path; it keeps the paths asked and the headers."""

    def __init__(self, body: bytes) -> None:
        self.body, self.asked, self.headers = body, list[str](), list[dict[str, str]]()
        self.elsewhere = ""  # where /moved leads
        self.half_sent, self.go_on = Event(), Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.split("?")[0]
        self.asked.append(handler.path)
        self.headers.append(dict(handler.headers))
        if path.endswith("/gone"):
            handler.send_error(404)
        elif path.endswith("/gated"):
            handler.send_error(401)
        elif path.endswith("/moved"):
            handler.send_response(302)
            handler.send_header("Location", self.elsewhere)
            handler.end_headers()
        elif path.endswith("/noise"):
            handler.wfile.write(b"no http at all\r\n\r\n")
        else:
            self._send(handler, path)

    def _send(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(self.body)))
        handler.end_headers()
        half = len(self.body) // 2
        handler.wfile.write(self.body[:half])
        if path.endswith("/cut"):
            return
        if path.endswith("/slow"):
            handler.wfile.flush()
            self.half_sent.set()
            self.go_on.wait(20)
        handler.wfile.write(self.body[half:])


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    thread = Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        site.go_on.set()
        site.server.shutdown()
        thread.join(10)
        site.server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site(lines(PAIR))) as site:
        yield site


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAITRL_CACHE", str(tmp_path / "cache"))
    for name in ("HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


def kept(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def test_an_address_is_fetched_once_checked_and_kept_by_its_checksum(site: Site, cache: Path) -> None:
    pinned = sha(site.body)
    attack = TuningAttackConfig(id="t", stance="harmful", data=f"{site.url}/rows.jsonl", sha256=pinned, doses=(1,))
    assert tuning_rows(attack)[0].messages[-1].content == "do ."
    assert tuning_rows(attack) and site.asked == ["/rows.jsonl"]
    assert kept(cache) == [cache / "data" / pinned]
    (cache / "data" / pinned).write_bytes(site.body[:-3])  # damaged since: fetched anew, not used
    assert tuning_rows(attack) and len(site.asked) == 2
    assert (cache / "data" / pinned).read_bytes() == site.body


def test_what_came_is_not_what_is_pinned(site: Site, cache: Path) -> None:
    with pytest.raises(
        AttackError, match=rf"/rows: {len(site.body)} bytes with sha256 {sha(site.body)}, pinned is 0000"
    ):
        local_copy(f"{site.url}/rows", "0" * 64)
    assert not kept(cache)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gone", "/gone: the server says 404 Not Found; check address and revision"),
        ("gated", "/gated: the server says 401 Unauthorized; give a path to the file"),
        ("cut", r"/cut: cut off after \d+ bytes, \d+ more expected; run again"),
        ("noise", r"/noise cannot be fetched \(BadStatusLine\)"),
        ("slow", r"/slow cannot be fetched \(.*timed out.*\); run again when it can be reached"),
    ],
)
def test_what_fails_on_the_way_is_one_line_and_leaves_nothing(
    path: str, message: str, site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_SILENCE_SECONDS", 0.2)
    with pytest.raises(AttackError, match=message) as caught:
        local_copy(f"{site.url}/{path}?key=sk-planted", sha(site.body))
    assert "\n" not in str(caught.value) and "planted" not in str(caught.value)
    assert not kept(cache)


def test_offline_is_said_with_the_reason(cache: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/rows"  # bound, and nobody listens
        with pytest.raises(AttackError, match=r"/rows cannot be fetched \(.*refused.*\); run again when"):
            local_copy(address, "0" * 64)
    with pytest.raises(AttackError, match=r"^http://host/rows cannot be fetched \(InvalidURL\)"):
        local_copy("http://me:sk-planted@host/rows", "0" * 64)
    assert not kept(cache)


def test_a_hub_file_is_asked_for_by_commit_and_the_token_stays_with_the_hub(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Site(site.body)) as storage:
        site.elsewhere = f"{storage.url}/blob"
        monkeypatch.setenv("HF_ENDPOINT", f"{site.url}/")
        monkeypatch.setenv("HF_TOKEN", "hf_planted")
        path = local_copy(f"hf://datasets/org/a.set@{COMMIT}/data/part 1/moved", sha(site.body))
        assert path.read_bytes() == site.body
        assert site.asked == [f"/datasets/org/a.set/resolve/{COMMIT}/data/part%201/moved"]
        assert site.headers[0]["Authorization"] == "Bearer hf_planted"
        assert storage.asked == ["/blob"] and "Authorization" not in storage.headers[0]
        with pytest.raises(AttackError, match=f"^hf://datasets/org/a.set@{COMMIT}/gated: .* 401 .*; set HF_TOKEN to a"):
            local_copy(f"hf://datasets/org/a.set@{COMMIT}/gated", "0" * 64)
    assert local_copy(f"{site.url}/rows", sha(site.body)) == path and len(site.asked) == 2  # the same bytes


def test_killed_on_the_way_it_leaves_no_file_and_the_next_run_fetches_it(site: Site, cache: Path) -> None:
    script = "import sys; from traitrl.persistence.fetch import local_copy; local_copy(sys.argv[1], sys.argv[2])"
    child = subprocess.Popen([sys.executable, "-c", script, f"{site.url}/slow", sha(site.body)], env={**os.environ})
    assert site.half_sent.wait(30)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not kept(cache)
    site.go_on.set()
    assert local_copy(f"{site.url}/slow", sha(site.body)).read_bytes() == site.body
    assert [path.name for path in kept(cache)] == [sha(site.body)]


def test_a_cache_that_cannot_be_written_stops_this_attack_and_no_other(site: Site, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(AttackError, match=r"cannot write .*; check the path"):
        local_copy(f"{site.url}/rows", sha(site.body))


def test_a_path_stays_a_path_and_addresses_are_shown_without_what_may_be_secret(tmp_path: Path) -> None:
    assert local_copy(str(tmp_path / "rows"), "") == tmp_path / "rows"
    assert shown("https://me:key@host:8/a/b?token=x#y") == "https://host:8/a/b"
    assert shown(f"hf://datasets/o/n@{COMMIT}/f") == f"hf://datasets/o/n@{COMMIT}/f"
    assert shown("some/rows@1.jsonl") == "some/rows@1.jsonl"


def test_the_documented_public_set_loads_as_it_stands() -> None:
    page = (Path(__file__).parents[1] / "docs" / "persistence.md").read_text()
    (block,) = re.findall(r"```toml\n(.*?)```", page.split("## Public data")[1].split("\n## ")[0], re.DOTALL)
    section = PersistenceConfig.model_validate({"rows": ["mask"], **tomllib.loads(block)["persistence"]})
    bad, good = section.tuning
    assert (bad.twin, good.twin) == (good.id, bad.id) and bad.sha256 != good.sha256
    assert bad.doses[-1] == good.doses[-1]


def test_an_attack_may_ask_other_items_than_the_section() -> None:
    tuning = {"stance": "harmful", "data": "@rows", "doses": [1]}
    section = PersistenceConfig.model_validate(
        {
            "rows": ["mask"],
            "prompt": [{"id": "mine", "items_per_row": 20}, {"id": "theirs"}],
            "tuning": [{"id": "few", "items_per_row": 2, **tuning}, {"id": "usual", **tuning}],
        }
    )
    assert section.own_items == {"mine": 20, "few": 2}
