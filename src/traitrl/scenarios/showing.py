"""A scenario as a readable page in the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from traitrl.core import Scenario, score_verdicts

_STYLES = {"system": "dim", "user": "cyan", "assistant": "magenta"}


def scenario_page(row: Scenario) -> RenderableType:
    """Conversation, rubric with the verdicts of each exemplar, exemplar replies, provenance."""
    head = Text.assemble((row.id, "bold"), f"   {row.trait} in {row.domain}, {row.split}\n")
    head.append(f"under {', '.join(row.pressures)}; plot {row.plot or 'not named'}", style="dim")
    turns = [
        Panel(Text(message.content), title=message.role, title_align="left", border_style=_STYLES[message.role])
        for message in row.messages
    ]
    replies = [
        Panel(Text(exemplar.reply), title=f"{name} exemplar{_score(row, name)}", title_align="left")
        for name, exemplar in row.exemplars.items()
    ]
    origin = Text("; ".join(f"{key}: {value}" for key, value in row.provenance.items()), style="dim")
    return Group(head, *turns, _rubric(row), *replies, origin)


def _rubric(row: Scenario) -> Table:
    table = Table(title="rubric", title_justify="left", show_lines=False)
    table.add_column("points", justify="right")
    table.add_column("criterion", overflow="fold")
    for name in row.exemplars:
        table.add_column(name, justify="center")
    met = {
        name: {verdict.criterion_id: verdict.met for verdict in exemplar.verdicts}
        for name, exemplar in row.exemplars.items()
    }
    for criterion in row.rubric:
        marks = [{True: "met", False: "-", None: "?"}[met[name].get(criterion.id)] for name in row.exemplars]
        table.add_row(f"{criterion.points:+d}", criterion.text, *marks)
    return table


def _score(row: Scenario, name: str) -> str:
    exemplar = row.exemplars[name]  # type: ignore[index]
    return f", score {score_verdicts(row.as_rubric(), exemplar.verdicts):.2f}" if exemplar.verdicts else ""
