"""Records in, tables out: pairing, levels, checkpoints, subsets, covariates, and what is refused."""

import json
import random

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from traitrl.analysis.config import AnalysisConfig, Subset
from traitrl.analysis.contrasts import CONTRAST_COLUMNS, Comparison, contrast_tables
from traitrl.analysis.estimates import ESTIMATE_COLUMNS, estimate_table
from traitrl.analysis.frames import prepare
from traitrl.analysis.run import CONTRASTS, ESTIMATES, SUMMARY, run_analysis
from traitrl.core import ConfigError, Record, StoreError

PAIR = Comparison("main", "traits", "standard")
quick = settings(max_examples=10)


def record(arm, score, item="i0", **other):
    """One record; a score of None is ungraded."""
    step = other.get("step", 0 if arm == "prior" else 100)
    fields = {
        "experiment": "main",
        "arm": arm,
        "seed": 0,
        "step": step,
        "checkpoint": f"step-{step}",
        "suite_id": "honesty",
        "family": "deception",
        "item_id": item,
        "cluster": item,
        "split": "ood",
        "score": score,
        "ungraded_reason": "unreadable reply of the judge" if score is None else None,
        "judge": "rules",
        **other,
    }
    return Record(**fields)


def frame(records):
    """Records as :func:`read_records` gives them."""
    rows = pd.DataFrame([r.model_dump() for r in records])
    return rows.assign(score=rows["score"].astype(float), refusal=rows["refusal"].astype(float))


def write(path, records):
    """Records as the evals write them."""
    pq.write_table(pa.Table.from_pylist([r.model_dump() for r in records]), path)
    return path


def both(scores, **other):
    """Records of both arms from {item: (traits, standard)}."""
    return [
        record(arm, score, item, **other)
        for item, pair in scores.items()
        for arm, score in zip(("traits", "standard"), pair)
    ]


def contrast(records, pair=PAIR):
    """The only row of the contrast table."""
    table, _ = contrast_tables(prepare(frame(records)), [pair], 0.05)
    assert len(table) == 1
    return table.iloc[0]


grades = st.one_of(st.none(), st.integers(0, 4).map(lambda n: n / 4))
answers = st.dictionaries(
    st.tuples(
        st.sampled_from(["traits", "standard"]),
        st.integers(0, 2),
        st.sampled_from(["i0", "i1", "i2", "i3", "i4"]),
        st.integers(0, 1),
    ),
    grades,
    min_size=1,
    max_size=40,
)


def from_cells(cells):
    """Records of a drawn design: {(arm, seed, item, sample): score or None}; items 3 and 4 share a cluster."""
    owner = {"i3": "c", "i4": "c"}
    return [
        record(arm, score, item, seed=seed, sample=sample, cluster=owner.get(item, ""))
        for (arm, seed, item, sample), score in cells.items()
    ]


@quick
@given(answers)
def test_pairing_never_drops_an_answer_silently(cells):
    table, _ = contrast_tables(prepare(frame(from_cells(cells))), [PAIR], 0.05)
    arms = {name: {key[1:] for key in cells if key[0] == name} for name in ("traits", "standard")}
    if not (arms["traits"] and arms["standard"]):
        assert table.empty
        return
    row = table.iloc[0]
    shared = arms["traits"] & arms["standard"]
    graded = {key for key in shared if all(cells[(arm, *key)] is not None for arm in arms)}
    assert row["n_pairs"] == len(graded)
    assert row["n_ungraded"] == len(shared - graded)
    assert row["n_pairs"] + row["n_unpaired"] + row["n_ungraded"] == len(arms["traits"] | arms["standard"])
    assert row["n_items"] == len({item for _, item, _ in graded})
    if graded:
        assert row["difference"] == pytest.approx(row["mean_arm"] - row["mean_versus"])


@quick
@given(answers)
def test_swapping_the_arms_flips_every_sign_and_nothing_else(cells):
    data = prepare(frame(from_cells(cells)))
    one, other = (
        contrast_tables(data, [Comparison("main", *arms)], 0.05)[0]
        for arms in (("traits", "standard"), ("standard", "traits"))
    )
    for left, right in (("difference", "difference"), ("ci_low", "ci_high"), ("ci_high", "ci_low")):
        np.testing.assert_allclose(one[left], -other[right], atol=1e-12)
    for same in ("se", "p", "q", "n_pairs", "n_unpaired", "n_ungraded", "n_clusters"):
        np.testing.assert_allclose(one[same], other[same], atol=1e-12)
    np.testing.assert_allclose(one["mean_arm"], other["mean_versus"])
    swap = {"gain": "loss", "loss": "gain", "none": "none"}
    assert one["verdict"].tolist() == [swap[v] for v in other["verdict"]]


@pytest.mark.slow
@quick
@given(answers, st.integers(0, 99))
def test_the_order_of_records_changes_nothing(cells, shuffle_seed):
    records = from_cells(cells)
    shuffled = random.Random(shuffle_seed).sample(records, len(records))
    one, other = prepare(frame(records)), prepare(frame(shuffled))
    pd.testing.assert_frame_equal(estimate_table(one, 0.05), estimate_table(other, 0.05), check_exact=True)
    for a, b in zip(contrast_tables(one, [PAIR], 0.05), contrast_tables(other, [PAIR], 0.05)):
        pd.testing.assert_frame_equal(a, b, check_exact=True)


@quick
@given(answers)
def test_ungraded_is_never_zero(cells):
    """An ungraded answer counts as one and changes no mean: the table is that of the graded answers alone."""
    everything = estimate_table(prepare(frame(from_cells(cells))), 0.05)
    graded = {key: score for key, score in cells.items() if score is not None}
    assert everything["n_ungraded"].sum() == len(cells) - len(graded)
    assert everything["n_answers"].sum() == len(graded)
    if graded:
        alone = estimate_table(prepare(frame(from_cells(graded))), 0.05).set_index("arm")
        measured = everything[everything["n_answers"] > 0].set_index("arm")
        for column in ("mean", "ci_low", "ci_high", "n_items", "n_seeds"):
            pd.testing.assert_series_equal(measured[column], alone[column], check_exact=True)
    assert everything.loc[everything["n_answers"] == 0, "mean"].isna().all()


def test_by_hand():
    # Differences .2 .4 | .0 -.2 in two clusters, see test_by_hand_two_clusters; samples of i0 are averaged first.
    scores = {"i1": (0.9, 0.5), "i2": (0.5, 0.5), "i3": (0.3, 0.5), "i4": (1.0, None), "i5": (None, None)}
    owner = {"i1": "a", "i2": "b", "i3": "b"}
    records = [r.model_copy(update={"cluster": owner.get(r.item_id, "c")}) for r in both(scores)]
    for sample, (traits, standard) in enumerate([(1.0, 0.5), (0.4, 0.5), (0.0, None)]):
        records += both({"i0": (traits, standard)}, sample=sample, cluster="a")
    records.append(record("traits", 1.0, "i6"))
    row = contrast(records)
    assert row["difference"] == pytest.approx(0.1)
    assert (row["mean_arm"], row["mean_versus"]) == pytest.approx((0.6, 0.5))
    assert (row["se"], row["p"], row["q"]) == pytest.approx((0.2, 0.7048328, 0.7048328))
    assert (row["ci_low"], row["ci_high"]) == (-1.0, 1.0)  # .1 -+ 12.7 * .2, kept inside what a difference can be
    assert [row[n] for n in ("n_pairs", "n_ungraded", "n_unpaired", "n_items", "n_clusters")] == [5, 3, 1, 4, 2]
    assert (row["ahead"], row["verdict"], row["test"]) == (True, "none", "t")
    table = estimate_table(prepare(frame(records)), 0.05).set_index("arm")
    # i0 is the mean of its three samples, i4 and i6 have no graded partner and still count for the arm itself.
    assert table.loc["traits", "mean"] == pytest.approx((1.4 / 3 + 0.9 + 0.5 + 0.3 + 1.0 + 1.0) / 6)
    assert table.loc["traits", ["n_items", "n_answers", "n_ungraded", "n_seeds"]].tolist() == [6, 8, 1, 1]
    assert np.isnan(table.loc["traits", "refusal_rate"])


def test_refusals_are_a_share_of_the_labelled_answers():
    records = [record("traits", 1.0, f"i{n}", refusal=label) for n, label in enumerate([True, False, False, None])]
    assert estimate_table(prepare(frame(records)), 0.05)["refusal_rate"].tolist() == [pytest.approx(1 / 3)]


def test_an_eval_without_any_grade_stays_in_the_tables():
    row = contrast(both({"i0": (None, 0.5), "i1": (None, 0.5)}))
    assert np.isnan([row["difference"], row["p"], row["q"]]).all()
    assert (row["verdict"], row["ahead"], row["n_ungraded"]) == ("none", False, 2)


def test_checkpoints_pair_step_with_step_and_the_untrained_arm_with_every_step():
    scores = {"i0": (0.6, 0.2), "i1": (0.9, 0.3)}
    records = both(scores) + both(scores, step=40) + [record("traits", 0.5, step=60)]
    records += [record("prior", 0.1, item) for item in scores]
    records += both(scores, seed=1, step=80)  # a seed that ended early: its last checkpoint is its final one
    pairs = [PAIR, Comparison("main", "traits", "prior"), Comparison("main", "prior", "standard")]
    table, by_seed = contrast_tables(prepare(frame(records)), pairs, 0.05)
    place = table.set_index(["arm", "versus", "step", "final"])["n_pairs"].to_dict()
    assert place == {
        ("prior", "standard", 0, True): 2,
        ("traits", "prior", 40, False): 2,
        ("traits", "prior", 60, False): 1,
        ("traits", "prior", 100, True): 2,
        ("traits", "standard", 40, False): 2,
        ("traits", "standard", 100, True): 4,
    }
    final = by_seed[(by_seed["arm"] == "traits") & (by_seed["versus"] == "standard")]
    assert final["seed"].tolist() == [0, 1]
    assert final["difference"].tolist() == pytest.approx([0.5, 0.5])


def test_heldout_records_are_tabled_by_eval_and_by_trait():
    records = both({"i0": (0.6, 0.2), "i1": (0.7, 0.2)}, split="heldout", suite_id="held-a", trait="truthfulness")
    records += both({"i0": (0.4, 0.2)}, split="heldout", suite_id="held-b", family="other", trait="truthfulness")
    records += both({"i0": (0.9, 0.2)}, trait="truthfulness")
    table, _ = contrast_tables(prepare(frame(records)), [PAIR], 0.05)
    assert table[["split", "level", "name", "family", "n_pairs"]].values.tolist() == [
        ["heldout", "suite_id", "held-a", "deception", 2],
        ["heldout", "suite_id", "held-b", "other", 1],
        ["heldout", "trait", "truthfulness", "mixed", 3],
        ["ood", "suite_id", "honesty", "deception", 1],
    ]


def study(rng):
    """Three trained arms and the prior, three seeds, eight evals; the gain of `traits` grows with the eval's number."""
    lift = {"prior": 0.0, "standard": 0.0, "traits": 0.06, "help": 0.0}
    return [
        record(
            arm,
            min(1.0, max(0.0, round(0.3 + lift[arm] * n + rng.gauss(0, 0.05), 3))) if rng.random() > 0.03 else None,
            f"i{item}",
            seed=seed,
            suite_id=f"eval-{n}",
            family="null" if n < 2 else "live",
            cluster=f"c{item // 2}",
        )
        for arm in lift
        for seed in ((0,) if arm == "prior" else (0, 1, 2))
        for n in range(8)
        for item in range(10)
    ]


def claims():
    base = {"experiment": "main", "arm": "traits"}
    return (
        Subset(name="all", title="All", expectation="gain", **base),
        Subset(name="live", title="Live", families=("live", "lost"), **base),
        Subset(name="rest", title="Rest", exclude_families=("live",), **base),
        Subset(name="few", title="Few", suite_ids=("eval-7", "eval-9"), versus="help", **base),
        Subset(name="control", title="Control", expectation="none", experiment="main", arm="help"),
    )


def test_the_whole_stage(tmp_path):
    records = study(random.Random(1))
    attack = {"attack": "persona", "strength": 1.0}
    records.append(record("traits", 0.0, "i0", suite_id="eval-0", family="null", cluster="c0", **attack))
    covariates = tmp_path / "covariates.csv"
    lines = [f"eval-{n},{n // 2},{'' if n == 3 else 1}" for n in range(8)]
    covariates.write_text("\n".join(["suite_id,coherence,flat", *lines, "unused,9,9"]) + "\n")
    config = AnalysisConfig(subsets=claims(), covariates=str(covariates), bootstrap=300)
    files = [write(tmp_path / f"{n}.parquet", records[n::3]) for n in range(3)]
    summary = run_analysis(files, tmp_path / "out", config)
    assert json.loads((tmp_path / "out" / SUMMARY).read_text()) == summary
    assert summary["records"] == len(records)
    assert summary["ungraded"] == {"unreadable reply of the judge": sum(r.score is None for r in records)}
    assert summary["checks"]["attacked_records"] == 1
    assert pq.read_schema(tmp_path / "out" / ESTIMATES).names == list(ESTIMATE_COLUMNS)
    contrasts = pq.read_table(tmp_path / "out" / CONTRASTS)
    assert contrasts.column_names == list(CONTRAST_COLUMNS)
    assert contrasts.num_rows == 4 * 8
    lines = {line["name"]: line for line in summary["subsets"]}
    sizes = {"all": 8, "live": 6, "rest": 2, "few": 1}
    assert {name: line["n_evals"] for name, line in lines.items() if name != "control"} == sizes
    assert lines["live"]["missing"] == ["lost"]
    assert lines["few"]["missing"] == ["eval-9"]
    assert lines["few"]["ci_low"] is None
    assert lines["live"]["significant_gains"] == 6
    assert (
        abs(lines["control"]["mean_gain"]) < 0.02
    )  # a false discovery among its eight evals is allowed, a gain is not
    assert lines["control"]["significant_gains"] + lines["control"]["significant_losses"] <= 1
    assert lines["all"]["ahead"] + lines["all"]["behind"] + lines["all"]["tied"] == 8
    assert lines["all"]["seeds"] == [0, 1, 2]
    assert np.mean(lines["all"]["seed_gains"]) == pytest.approx(lines["all"]["mean_gain"], abs=0.01)
    dose = {(c["arm"], c["versus"], c["covariate"]): c for c in summary["covariates"]}
    assert dose["traits", "standard", "coherence"]["spearman"] > 0.9
    assert [v["n"] for v in dose["traits", "standard", "coherence"]["by_value"]] == [2, 2, 2, 2]
    assert dose["traits", "standard", "flat"]["spearman"] is None
    assert dose["traits", "standard", "flat"]["n"] == 7

    random.Random(2).shuffle(records)
    run_analysis([write(tmp_path / "shuffled.parquet", records)], tmp_path / "again", config)
    for name in (ESTIMATES, CONTRASTS, SUMMARY):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_estimates_alone_are_a_legitimate_analysis(tmp_path):
    files = [write(tmp_path / "r.parquet", [record("model-a", 0.5), record("model-b", 0.7)])]
    summary = run_analysis(files, tmp_path / "out", AnalysisConfig())
    assert summary["checks"]["without_baseline"] == ["main"]
    assert pq.read_table(tmp_path / "out" / CONTRASTS).num_rows == 0
    assert pq.read_table(tmp_path / "out" / ESTIMATES).num_rows == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.drop_columns(["score"]), "no column score"),
        (
            lambda t: t.set_column(t.column_names.index("score"), "score", pa.array(["good"] * len(t))),
            "column score is",
        ),
        (lambda t: t.set_column(t.column_names.index("score"), "score", pa.array([1.5] * len(t))), "score outside"),
        (
            lambda t: t.set_column(t.column_names.index("score"), "score", pa.array([float("nan")] * len(t))),
            "not a num",
        ),
        (lambda t: t.set_column(t.column_names.index("score"), "score", pa.nulls(len(t))), "neither or both"),
        (lambda t: t.set_column(t.column_names.index("split"), "split", pa.array(["train"] * len(t))), "split other"),
        (lambda t: t.set_column(t.column_names.index("arm"), "arm", pa.nulls(len(t))), "column arm has 2 empty"),
    ],
)
def test_a_malformed_file_is_named(tmp_path, change, says):
    good = write(tmp_path / "good.parquet", [record("standard", 0.5)])
    bad = tmp_path / "bad.parquet"
    pq.write_table(change(pa.Table.from_pylist([r.model_dump() for r in both({"i0": (0.5, 0.5)})])), bad)
    with pytest.raises(StoreError, match=says) as caught:
        run_analysis([good, bad], tmp_path / "out", AnalysisConfig())
    assert str(bad) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_files_that_are_not_parquet_or_not_there_are_named(tmp_path):
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and then the disk was full")
    for path in (tmp_path / "cut.parquet", tmp_path / "absent.parquet"):
        with pytest.raises(StoreError, match=path.name):
            run_analysis([path], tmp_path / "out", AnalysisConfig())
    with pytest.raises(StoreError, match="no records"):
        run_analysis([], tmp_path / "out", AnalysisConfig())


@pytest.mark.parametrize(
    ("records", "says"),
    [
        (both({"i0": (0.5, 0.5)}) * 2, "2 records of one answer .*arm standard"),
        (both({"i0": (0.5, 0.5)}) + both({"i0": (0.5, 0.5)}, judge="other"), "judges: other, rules"),
        ([record("traits", 0.5, cluster="a"), record("standard", 0.5, cluster="b")], "cluster 'b' and 'a'"),
        ([record("traits", 0.5, attack="persona")], "every record is from an attack"),
    ],
)
def test_contradicting_records_are_refused(records, says):
    with pytest.raises(StoreError, match=says):
        prepare(frame(records))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"arm": "trait"}, "no records of arm 'trait'.*did you mean 'traits'"),
        ({"experiment": "mian"}, "no records of experiment 'mian'.*did you mean 'main'"),
        ({"families": ("deceptoin",)}, "matches no eval.*did you mean 'deception'"),
        ({"split": "capability"}, "matches no eval of split 'capability'"),
    ],
)
def test_a_subset_that_matches_nothing_is_refused(tmp_path, change, says):
    subset = Subset(**{"name": "s", "title": "S", "experiment": "main", "arm": "traits", **change})
    files = [write(tmp_path / "r.parquet", both({"i0": (0.5, 0.5)}))]
    with pytest.raises(ConfigError, match=says):
        run_analysis(files, tmp_path / "out", AnalysisConfig(subsets=(subset,)))
    assert not (tmp_path / "out").exists()


def test_configs_that_make_no_sense_are_refused():
    base = {"name": "s", "title": "S", "experiment": "main", "arm": "traits"}
    for change in (
        {"versus": "traits"},
        {"level": "trait"},
        {"level": "trait", "split": "heldout", "families": ("x",)},
    ):
        with pytest.raises(ValidationError):
            Subset(**base, **change)
    with pytest.raises(ValidationError, match="unique"):
        AnalysisConfig(subsets=(Subset(**base), Subset(**base)))
