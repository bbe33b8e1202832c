"""A dataset as one static page: read, filter and search it in a browser, without a server and without a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from traitrl.core import Scenario, score_verdicts
from traitrl.store import write_bytes_atomic

_TEMPLATE = Path(__file__).parent / "browse.html"


def browse_page(rows: Sequence[Scenario], out: Path, title: str = "Beneficial-trait scenarios") -> Path:
    """Write the page; all texts are embedded as data and set as text, so nothing in a scenario can act on the page."""
    data = json.dumps([_shown(row) for row in rows], ensure_ascii=False, separators=(",", ":"))
    # "</script>" inside a JSON string would end the element it stands in.
    safe = data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    page = _TEMPLATE.read_text(encoding="utf-8").replace("@TITLE@", title.replace("<", "&lt;")).replace("@DATA@", safe)
    write_bytes_atomic(out, page.encode())
    return out


def _shown(row: Scenario) -> dict[str, object]:
    data = row.model_dump(mode="json", exclude={"exemplars"})
    data["exemplars"] = [
        {
            "name": name,
            "reply": exemplar.reply,
            "score": score_verdicts(row.as_rubric(), exemplar.verdicts) if exemplar.verdicts else None,
            "met": {verdict.criterion_id: verdict.met for verdict in exemplar.verdicts},
            "why": {verdict.criterion_id: verdict.reason for verdict in exemplar.verdicts},
        }
        for name, exemplar in row.exemplars.items()
    ]
    return data
