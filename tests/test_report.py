"""The page, from a synthetic analysis folder: two experiments, six arms, gains, a loss, a null control, no grades."""

import csv
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from test_report_synthetic import HOSTILE, LOSER, NOTES, Synthetic, hostile_title, subset, training_rows
from traitrl.core import ConfigError, StoreError
from traitrl.report.accounting import compute
from traitrl.report.blocks import Figure, Table
from traitrl.report.build import all_sections, build_report
from traitrl.report.claims import claims_table
from traitrl.report.load import load_study
from traitrl.report.page import render_page
from traitrl.report.tables import to_csv, to_html


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    page = build_report(
        Synthetic().write(folder / "5-analysis"),
        training_rows(),
        folder / "6-report",
        title=hostile_title(),
        notes=NOTES,
        names=names(),
    )
    assert page == folder / "6-report" / "index.html"
    return page


@pytest.fixture(scope="module")
def page(built: Path) -> str:
    return built.read_text(encoding="utf-8")


def table_rows(built: Path, name: str) -> list[dict[str, str]]:
    text = (built.parent / "tables" / f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def names() -> list[dict[str, str]]:
    """What a study says of its ids; one is used nowhere, and one arm has no words."""
    known = [
        ("experiment", "coherent", "One author"),
        ("arm", "traits", f"Every trait {HOSTILE}"),
        ("arm", "unused", "Never run"),
    ]
    evals = {
        "kind": "eval",
        "name": "eval-03",
        "meaning": "Keeps to the facts",
        "family": "honesty",
        "stands_for": "MASK",
    }
    return [*({"kind": kind, "name": name, "meaning": meaning} for kind, name, meaning in known), evals]


def part(text: str, start: str, end: str) -> str:
    """What stands between two marks."""
    return text.split(start, 1)[1].split(end, 1)[0]


def body_of(page: str) -> str:
    """The page without the text of its scripts."""
    return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_sections_come_in_the_stated_order(page: str) -> None:
    assert " ".join(re.findall(r'<section id="([^"]+)"', page)) == (
        "headline names arms dose curves traits transfers controls capability evals experiments refusals judges compute "
        "rewards ungraded limits made"
    )


def test_ids_are_explained_where_somebody_said_what_they_are(built: Path, page: str, tmp_path: Path) -> None:
    found = [(row["kind"], row["name"]) for row in table_rows(built, "names")]
    splits = [("split", name) for name in ("ood", "heldout", "capability")]
    assert found == [("experiment", "coherent"), ("arm", "traits"), *splits]
    (meaning,) = table_rows(built, "evals-names")
    assert meaning == {"name": "eval-03", "family": "honesty", "meaning": "Keeps to the facts", "stands_for": "MASK"}
    folder = Synthetic(n_evals=2).write(tmp_path)
    assert "names" not in {section.id for section in all_sections(load_study(folder, [], []))}
    with pytest.raises(ConfigError, match="names: key 'meaning' is missing"):
        load_study(folder, [], [], names=[{"kind": "arm", "name": "traits"}])


def test_gains_by_seed_are_shown_where_there_are_several_seeds() -> None:
    for gains, shown in (([0.17, 0.19], True), ([0.18], False)):
        table = claims_table("t", "t", (subset("main", "coherent", "traits", "gain", 18.0, 2) | {"seed_gains": gains},))
        assert ("gain by seed" in to_html(table)) == shown and "seeds" in to_csv(table).splitlines()[0]


class Tags(HTMLParser):
    """Every start tag with its attributes, as a browser reads the page: text inside scripts is not markup."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_nothing_is_fetched(page: str) -> None:
    tags = Tags(page).found
    assert {"script", "style", "figure", "table", "details"} <= {tag for tag, _ in tags}
    assert [tag for tag, held in tags if tag in ("link", "img", "iframe", "object") or "src" in held] == []
    links = [held["href"] or "" for _, held in tags if "href" in held]
    assert links and all(link.startswith(("#", "tables/", "figures/")) for link in links)
    style = part(page, "<style>", "</style>")
    assert not re.search(r"@import|@font-face|url\(", style)
    assert "default-src 'none'" in page


def test_every_figure_has_its_svg_and_its_table(built: Path, page: str) -> None:
    names = re.findall(r'<figure id="figure-([^"]+)"', page)
    assert len(names) == len(set(names)) >= 12
    for name in names:
        assert (built.parent / "figures" / f"{name}.svg").read_text().startswith("<svg")
        rows = table_rows(built, name)
        assert rows, name
    assert (built.parent / "figures" / "headline.png").read_bytes().startswith(b"\x89PNG")
    for link in re.findall(r'href="((?:tables|figures)/[^"]+)"', page):
        assert (built.parent / link).exists(), link


def test_the_headline_states_interval_count_and_outcome(built: Path, page: str) -> None:
    headline = part(page, '<section id="headline">', "</section>")
    assert "ahead of standard on 11 of 12 evals" in headline
    assert "+18.0 [+15.0, +21.0]" in headline
    assert "there are 8 significant gains and 1 significant loss." in headline
    assert "<b>4 of 4</b><span>stated expectations held" in headline
    rows = table_rows(built, "claims")
    assert [row["outcome"] for row in rows] == ["as expected"] * 4 + ["report only"]
    assert [row["expected"] for row in rows] == ["a gain"] * 2 + ["no effect found"] * 2 + ["nothing"]
    assert rows[0]["mean_gain_points"] == "18" and rows[0]["seeds"] == "+17.0, +19.0"


def test_losers_are_in_the_figure_and_in_the_tables(built: Path, page: str) -> None:
    for name in ("losers", "evals", "headline"):
        rows = table_rows(built, name)
        ours = [row for row in rows if (row["experiment"], row["arm"], row["name"]) == ("coherent", "traits", LOSER)]
        assert [row["verdict"] for row in ours] == ["loss"], name
        assert float(ours[0]["difference_points"]) < 0
    losers = part(page, 'id="table-losers"', "</table>")
    assert LOSER in losers and '<span class="mark loss">loss</span>' in losers
    assert LOSER in part(page, 'data-chart="chart-headline"', "</script>")


def test_every_final_contrast_is_in_the_full_table(built: Path) -> None:
    rows = table_rows(built, "evals")
    expected = [row for row in Synthetic().contrasts() if row["final"] and row["level"] == "suite_id"]
    assert len(rows) == len(expected)


def test_ungraded_answers_are_shown_by_reason_and_by_arm(page: str) -> None:
    section = part(page, '<section id="ungraded">', "</section>")
    assert "7 of 5,000 records are ungraded" in section
    assert "judge_unreadable" in section and "timeout" in section and "never counted as 0" in section
    assert re.search(
        r'health-only</td><td>ood</td><td class="num" data-value="576">576</td><td class="num" data-value="3">3</td>',
        section,
    )


def test_names_are_escaped_everywhere(page: str) -> None:
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;") >= 4


@pytest.mark.slow
def test_equal_inputs_give_equal_bytes(built: Path, tmp_path: Path) -> None:
    rows = list(reversed(training_rows()))
    again = build_report(
        Synthetic().write(tmp_path / "5-analysis"),
        rows,
        tmp_path / "out",
        title=hostile_title(),
        notes=NOTES,
        names=names(),
    )
    first, second = files_below(built.parent), files_below(again.parent)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def files_below(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_study_with_next_to_nothing_still_has_a_page(tmp_path: Path) -> None:
    synthetic = Synthetic(n_evals=2)
    folder = synthetic.write(tmp_path / "analysis", subsets=[], covariates=[], ungraded={}, records=4)
    rows = [
        row
        for row in synthetic.estimates()
        if row["arm"] == "prior" and row["experiment"] == "coherent" and row["split"] == "ood"
    ]
    frame = pd.DataFrame(rows).assign(refusal_rate=float("nan"), ci_low=float("nan"), ci_high=float("nan"))
    frame.to_parquet(folder / "estimates.parquet")
    pd.DataFrame(columns=list(synthetic.contrasts()[0])).to_parquet(folder / "contrasts.parquet")
    text = body_of(build_report(folder, [], tmp_path / "out", title="t", notes=[]).read_text())
    assert "states no claims" in text and "Refusals were not labelled" in text and "No training rows were given" in text
    assert "0 of 4 records are ungraded" in text and "No capability eval was measured" in text


def test_what_the_analysis_noticed_is_told(tmp_path: Path) -> None:
    ends = [{"experiment": "coherent", "arm": "traits", "seed": seed, "step": 90 + 10 * seed} for seed in (0, 1)]
    checks = {
        "attacked_records": 1200,
        "items_with_several_judges": 3,
        "without_baseline": ["odd"],
        "final_steps": ends,
    }
    claim = subset("main", "coherent", "traits", "none-significant", 0.18, 2) | {
        "untested": ["eval-77"],
        "missing": ["eval-88"],
    }
    claim |= {"significant_gains": 0, "significant_losses": 0}
    folder = Synthetic(n_evals=2).write(tmp_path, subsets=[claim], checks=checks)
    page = body_of(render_page("t", "", all_sections(load_study(folder, [], []))))
    for text in ("1,200 records were made under an attack", "3 items had different judges", "without gains: odd"):
        assert text in page
    assert "traits (coherent) at 90, 100" in page and "the interval of its mean gain does not contain 0" in page
    assert "no answer could be paired: eval-77" in page and "not measured at all: eval-88" in page


def test_unequal_training_is_not_called_matched(tmp_path: Path) -> None:
    folder = Synthetic(n_evals=2).write(tmp_path)
    for odd, told in (
        (None, "All trained arms of an experiment took the same steps"),
        ("incoherent", "in incoherent."),
    ):
        rows = [
            row | {"replies": 12_000 if (row["experiment"], row["arm"]) == (odd, "traits") else 12_800}
            for row in training_rows()
        ]
        table = compute(load_study(folder, rows)).blocks[0]
        assert isinstance(table, Table) and told in table.caption and ("did not take" in table.caption) == bool(odd)


def test_a_margin_is_in_the_units_of_the_gain(tmp_path: Path) -> None:
    claim = subset("skill", "coherent", "traits", "within-margin", 0.02, 2) | {"margin": 0.03}
    folder = Synthetic(n_evals=2).write(tmp_path, subsets=[claim])
    page = render_page("t", "", all_sections(load_study(folder, [], [])))
    assert "mean within ±3 points" in page and '<span class="mark gain">as expected</span>' in page


def test_unreadable_inputs_are_named(tmp_path: Path) -> None:
    folder = Synthetic(n_evals=2).write(tmp_path / "analysis")
    with pytest.raises(ConfigError, match=r"training row traits/\?: key 'seed' is missing"):
        build_report(folder, [{"experiment": "coherent", "arm": "traits"}], tmp_path / "out", title="t", notes=[])
    frame = pd.read_parquet(folder / "contrasts.parquet")
    pd.concat([frame, frame.head(1)]).to_parquet(folder / "contrasts.parquet")
    with pytest.raises(StoreError, match="more than one row"):
        build_report(folder, [], tmp_path / "out", title="t", notes=[])
    frame.drop(columns="q").to_parquet(folder / "contrasts.parquet")
    with pytest.raises(StoreError, match="no column q"):
        build_report(folder, [], tmp_path / "out", title="t", notes=[])
    (folder / "contrasts.parquet").unlink()
    with pytest.raises(StoreError, match="is missing"):
        build_report(folder, [], tmp_path / "out", title="t", notes=[])
    assert not (tmp_path / "out").exists()


def test_gaps_in_the_numbers_are_shown_as_gaps(tmp_path: Path) -> None:
    nan = float("nan")
    gap = subset("main", "coherent", "traits", "gain", 0.18, 4) | {"ci_low": nan, "ci_high": nan}
    folder = Synthetic(n_evals=4).write(tmp_path, subsets=[gap | {"seed_gains": [0.18, None]}], covariates=[])
    frame = pd.read_parquet(folder / "contrasts.parquet")
    frame.loc[frame["name"] == LOSER, ["difference", "ci_low", "ci_high", "se", "p", "q", "mean_arm"]] = nan
    frame.loc[frame["name"] == LOSER, ["verdict", "ahead"]] = [None, False]
    frame.to_parquet(folder / "contrasts.parquet")
    sections = all_sections(load_study(folder, [], []))
    page = body_of(render_page("t", "", sections))
    assert "+18.0 [no interval]" in page and "<b>0 of 0</b>" in page and "+18.0, –" in page and "no verdict" in page
    assert "nan" not in page.lower()
    blocks = [block for section in sections for block in section.blocks]
    headline = next(block for block in blocks if isinstance(block, Figure) and block.name == "headline")
    assert len(headline.rows) == 3 and LOSER not in {row["name"] for row in headline.rows}
    evals = next(block for block in blocks if isinstance(block, Table) and block.name == "evals")
    ours = [row for row in evals.rows if row["name"] == LOSER and row["arm"] == "traits"]
    assert len(ours) == 2 and all(row["difference"] is None for row in ours)


@pytest.mark.slow
def test_a_real_browser_draws_the_charts_and_sorts_the_table(built: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    assert chromium, "this test needs a browser: install the Debian package `chromium` (apt-get install chromium)"
    clicks = (
        "<script>for (let n = 0; n < 2; n++) document.querySelectorAll('#table-evals th button')[4].click();</script>"
    )
    clicked = tmp_path / "index.html"
    clicked.write_text(built.read_text(encoding="utf-8").removesuffix("</body></html>\n") + clicks, encoding="utf-8")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
    ]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [chromium, *flags, profile, "--dump-dom", clicked.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    dom = done.stdout
    charts = re.findall(r'<div class="chart[^"]*" id="chart-([^"]+)"', dom)
    assert len(charts) >= 12, done.stderr[-2000:]
    for chart in charts:
        drawn = part(dom, f'id="chart-{chart}"', "<figcaption")
        assert "<svg" in drawn and "could not be drawn" not in drawn, chart
    table = part(dom, 'id="table-evals"', "</table>")
    assert 'aria-sort="descending"' in table
    gains = [float(row[4]) for row in sort_keys(table)]
    assert gains == sorted(gains, reverse=True) and gains[0] > 0 > gains[-1]


def sort_keys(table: str) -> list[list[str]]:
    """The sort key of every cell, row by row; empty for text cells."""
    body = table.split("<tbody>", 1)[1]
    rows = [re.findall(r"<td([^>]*)>", row) for row in body.split("</tr>") if "<td" in row]
    return [[(re.search(r'data-value="([^"]*)"', cell) or ["", ""])[1] for cell in row] for row in rows]
