"""The shipped catalog, its sets and aliases, and overlays."""

from pathlib import Path

import pytest

from traitrl.catalog import check_catalog, load_catalog
from traitrl.core import CatalogError

THRIFT = """\
id = "thrift"
name = "Thrift"
definition = "Spends no more than the task needs."
is_not = "It is not meanness."
why = "Waste is paid for by somebody."
source = "a test"
pattern = [
    { text = "Names the cheaper way", points = 5 },
    { text = "Says what it costs", points = 3 },
    { text = "Spends without asking", points = -5 },
]

[exemplar]
user = "Which one?"
good = "The cheap one."
poor = "All of them."
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_catalog_passes_its_check():
    assert [str(problem) for problem in check_catalog()] == []


def test_the_shipped_catalog_loads_whole():
    catalog = load_catalog()
    assert (len(catalog.traits), len(catalog.domains), len(catalog.personas)) == (16, 12, 24)
    assert len(catalog.suite("paper53")) == 53
    assert {spec.id for spec in catalog.suite("capability")} >= {"gpqa", "hmmt"}
    assert set(catalog.arms) == {"prior", "standard", "traits", "health-only", "no-health-science", "helpfulness"}
    assert not catalog.arm("prior").train
    assert catalog.arm("helpfulness").slice_rubric == "helpfulness"
    assert catalog.trait("corrigibility").name == "Corrigibility"
    assert catalog.domain("art-and-music").settings
    assert catalog.pressure("deadline").example
    assert len(catalog.refusals) >= 25
    assert load_catalog() is catalog
    assert load_catalog([]) is catalog


def test_personas_have_mutual_twins_of_the_other_stance():
    personas = load_catalog().personas
    assert sum(persona.stance == "harmful" for persona in personas.values()) == 12
    paired = [persona for persona in personas.values() if persona.twin]
    assert len(paired) == 24
    for persona in paired:
        twin = personas[persona.twin]
        assert twin.twin == persona.id
        assert twin.stance != persona.stance


def test_sets_and_aliases():
    catalog = load_catalog()
    assert set(catalog.resolve_traits("all16")) == set(catalog.resolve_traits("all")) == set(catalog.traits)
    assert set(catalog.resolve_traits("all16")) - set(catalog.resolve_traits("paper15")) == {"epistemic-humility"}
    assert catalog.resolve_traits("truthfulness") == ("truthfulness",)
    assert catalog.resolve_traits("honesty") == ("truthfulness",)
    assert catalog.resolve_traits("uncertainty-recognition") == ("truthfulness", "metacognitive-transparency")
    assert catalog.resolve_domains("health") == ("health-and-medicine",)
    assert catalog.resolve_domains("art-and-music") == ("art-and-music",)
    assert set(catalog.resolve_domains("paper12")) == set(catalog.resolve_domains("all"))


def test_public7_is_what_the_seven_popular_names_resolve_to():
    catalog = load_catalog()
    assert len(catalog.sets.aliases) == 7
    named = {trait for alias in catalog.sets.aliases for trait in catalog.resolve_traits(alias)}
    assert set(catalog.resolve_traits("public7")) == named | {"epistemic-humility"}


def test_domains_of_arms():
    catalog = load_catalog()
    assert catalog.arm_domains("health-only") == ("health-and-medicine",)
    assert len(catalog.arm_domains("traits")) == 12
    left_out = set(catalog.domains) - set(catalog.arm_domains("no-health-science"))
    assert left_out == {"health-and-medicine", "scientific-research"}


@pytest.mark.parametrize(
    ("look_up", "name", "hint"),
    [
        ("resolve_traits", "honestly", "'honesty'"),
        ("resolve_traits", "paper51", "'paper15'"),
        ("resolve_domains", "heath", "'health'"),
        ("trait", "corrigible", "'corrigibility'"),
        ("domain", "art-and-musik", "'art-and-music'"),
        ("pressure", "dead-line", "'deadline'"),
        ("persona", "lier", "'liar'"),
        ("arm", "health", "'health-only'"),
        ("suite", "paper35", "'paper53'"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(look_up, name, hint):
    with pytest.raises(CatalogError, match=f"unknown .*{name}.*did you mean {hint}"):
        getattr(load_catalog(), look_up)(name)


def test_an_overlay_adds_replaces_and_merges(tmp_path):
    write(tmp_path, "traits/thrift.toml", THRIFT)
    write(tmp_path, "arms.toml", '[[arm]]\nid = "traits"\ntitle = "Mine"\nslice = "traits"\ntraits = "mine"\n')
    write(tmp_path, "sets.toml", '[traits]\nmine = ["thrift", "truthfulness"]\n[aliases]\nsaving = ["thrift"]\n')
    write(tmp_path, "refusals.toml", 'phrases = ["no way", "i can\'t help"]\n')
    write(
        tmp_path,
        "suite/own.toml",
        '[[eval]]\nid = "own"\nfamily = "own"\nstands_for = "Mine"\ndescription = "Mine."\nneeds = ["items"]\n',
    )
    assert check_catalog([tmp_path]) == []
    base, catalog = load_catalog(), load_catalog([tmp_path])
    assert catalog.resolve_traits("mine") == ("thrift", "truthfulness")
    assert catalog.resolve_traits("saving") == ("thrift",)
    assert catalog.resolve_traits("all") == (*base.traits, "thrift")
    assert catalog.sets.traits["paper15"] == base.sets.traits["paper15"]
    assert list(catalog.arms) == list(base.arms)
    assert catalog.arm("traits").title == "Mine"
    assert catalog.refusals == (*base.refusals, "no way")
    assert [spec.id for spec in catalog.suite("own")] == ["own"]
    assert catalog.suite("paper53") == base.suite("paper53")


def test_a_later_overlay_wins(tmp_path):
    for name in ("first", "second"):
        write(tmp_path / name, "traits/thrift.toml", THRIFT.replace('"Thrift"', f'"{name}"'))
    assert load_catalog([tmp_path / "first", tmp_path / "second"]).trait("thrift").name == "second"


def test_loading_a_malformed_overlay_names_file_and_line(tmp_path):
    write(tmp_path, "traits/thrift.toml", THRIFT.replace("definition", "defintion"))
    with pytest.raises(CatalogError, match=r"thrift\.toml:\d+: .* \(1 more; `traitrl check` lists them all\)$"):
        load_catalog([tmp_path])
    with pytest.raises(CatalogError, match="no such folder"):
        load_catalog([tmp_path / "absent"])


def test_resolving_a_set_with_an_unknown_member_raises(tmp_path):
    write(tmp_path, "sets.toml", '[traits]\nmine = ["truthfulnes"]\n')
    with pytest.raises(CatalogError, match="set 'mine' names the unknown trait 'truthfulnes'; did you mean"):
        load_catalog([tmp_path]).resolve_traits("mine")
