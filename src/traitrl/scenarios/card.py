"""What a dataset holds, as a table in the terminal and as the data card's figures."""

from __future__ import annotations

from rich.table import Table

from traitrl.scenarios.statistics import DatasetStats, Spread


def stats_table(stats: DatasetStats) -> Table:
    """The main counts."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in _lines(stats):
        table.add_row(name, value)
    return table


def _lines(stats: DatasetStats) -> list[tuple[str, str]]:
    return [
        ("scenarios", f"{stats.rows}: {stats.train} for training, {stats.heldout} held out"),
        ("multi-turn", f"{stats.multi_turn_share:.1%}"),
        ("with a system prompt", f"{stats.system_share:.1%}"),
        ("turns without the system turn", ", ".join(f"{key}: {value}" for key, value in stats.messages.items())),
        ("words of a conversation", _words(stats.conversation_words)),
        ("reading grade (Flesch-Kincaid)", _words(stats.reading_grade)),
        ("criteria of a rubric", ", ".join(f"{key}: {value}" for key, value in stats.criteria.items())),
        ("criteria that punish", f"{stats.negative_criteria_share:.1%}"),
        ("words of a good reply", _words(stats.good_words)),
        ("words of a poor reply", _words(stats.poor_words)),
        ("good reply is the longer one", f"{stats.good_longer_share:.1%}"),
        ("score of the good reply", _scores(stats.good_score)),
        ("score of the poor reply", _scores(stats.poor_score)),
        ("labelled verdicts", str(stats.verdicts)),
        ("second reading", _second_reading(stats)),
        ("persons named", str(stats.people)),
    ]


def _second_reading(stats: DatasetStats) -> str:
    if not stats.verdicts_compared:
        return f"{stats.second_read} scenarios"
    rate = stats.criteria_disagreed / stats.verdicts_compared
    return (
        f"{stats.second_read} scenarios; {stats.criteria_disagreed} of {stats.verdicts_compared} verdicts ({rate:.1%}) "
        "differed from the writer's intent before resolution"
    )


def _words(spread: Spread) -> str:
    half = f"half between {spread.quarter:.0f} and {spread.three_quarters:.0f}"
    return f"{spread.middle:.0f} ({half}, all {spread.least:.0f} to {spread.most:.0f})"


def _scores(spread: Spread) -> str:
    return f"{spread.middle:.2f} (all {spread.least:.2f} to {spread.most:.2f})"


def data_card(stats: DatasetStats) -> str:
    """The figures of the data card in Markdown: the main counts, each cell, each pressure."""
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in _lines(stats)), "", "### Cells", ""]
    traits = sorted({key.split("|")[0] for key in stats.cells})
    domains = sorted({key.split("|")[1] for key in stats.cells})
    lines += ["Training + held-out scenarios of each trait in each domain.", ""]
    lines += ["| trait | " + " | ".join(domains) + " |", "|---|" + "---|" * len(domains)]
    for trait in traits:
        cells = [
            f"{stats.cells.get(f'{trait}|{domain}|train', 0)} + {stats.cells.get(f'{trait}|{domain}|heldout', 0)}"
            for domain in domains
        ]
        lines.append(f"| {trait} | " + " | ".join(cells) + " |")
    lines += ["", "### Pressures", "", "A scenario has one to three.", "", "| pressure | scenarios |", "|---|---|"]
    lines += [f"| {name} | {count} |" for name, count in sorted(stats.pressures.items(), key=lambda item: -item[1])]
    return "\n".join(lines) + "\n"
