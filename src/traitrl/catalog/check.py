"""What ``traitrl check`` does: read every data file, never stop at a defect, and name file, line and remedy of each."""

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from traitrl.catalog.loader import KINDS, PACKAGE_DATA, Entry, Problem, Reading, parse_toml, read_folders, validate
from traitrl.core.arms import Arm
from traitrl.core.ids import check_id, nearest
from traitrl.core.rubrics import score_verdicts
from traitrl.core.scenarios import Scenario
from traitrl.core.suite import EvalSpec
from traitrl.core.taxonomy import CatalogSets, Persona, Trait

PAPER_SUITE = "paper53"
PAPER_ROWS = 53

# Folders and files of a catalog that other rooms read; here only their syntax is checked.
_READ_ELSEWHERE = ("judges", "generation", "models.toml")
_KNOWN_NAMES = sorted({kind.pattern.split("/")[0] for kind in KINDS} | {"scenarios", *_READ_ELSEWHERE})


def check_catalog(overlays: Sequence[Path] = ()) -> list[Problem]:
    """Every defect of the package's catalog with ``overlays`` laid over it, by folder, file and line; empty if well.

    Looks at syntax, schema, unknown keys and files, ids, references between files, the rules of each kind, and the rows
    of ``scenarios/*.jsonl``.
    """
    return check_folders((PACKAGE_DATA, *map(Path, overlays)))


def check_folders(folders: Sequence[Path]) -> list[Problem]:
    """As :func:`check_catalog`, for a catalog made of ``folders``, the base first."""
    reading = read_folders(folders)
    names = _Names(reading)
    problems = list(reading.problems)
    for entry in _entries(reading, "trait"):
        problems += _check_trait(entry, entry.value)
    for entry in _entries(reading, "eval"):
        problems += _check_eval(entry, entry.value)
    for entry in _entries(reading, "arm"):
        problems += _check_arm(entry, entry.value, names)
    for entry in _entries(reading, "sets"):
        problems += _check_sets(entry, entry.value, names)
    for entry in _entries(reading, "refusals"):
        problems += _check_refusals(entry)
    for kind in ("trait", "domain", "pressure", "persona", "arm", "eval"):
        for entry in _entries(reading, kind):
            problems += _check_not_blank(entry)
    problems += _check_personas(reading)
    problems += _check_suites(reading)
    for index, folder in enumerate(folders):
        problems += _check_strangers(folder, reading, is_base=index == 0)
        problems += _check_scenarios(folder, names)
    return sorted(
        set(problems),
        key=lambda problem: (_layer(problem.file, folders), str(problem.file), problem.line, problem.message),
    )


def _layer(file: Path, folders: Sequence[Path]) -> int:
    """The index of the last folder that holds ``file``."""
    return max((index for index, folder in enumerate(folders) if file.is_relative_to(folder)), default=0)


class _Names:
    """Every valid name after merging. A kind is None when one of its files was unreadable: then nobody can tell."""

    def __init__(self, reading: Reading) -> None:
        def known(kind: str) -> tuple[str, ...] | None:
            return None if kind in reading.unreadable else tuple(id_ for id_ in reading.merged(kind) if id_)

        self.traits, self.domains, self.pressures = known("trait"), known("domain"), known("pressure")
        broken = "sets" in reading.unreadable or any(entry.value is None for entry in reading.entries["sets"])
        self.sets: CatalogSets | None = None if broken else reading.sets()

    def reference(self, kind: str, name: str, known: Collection[str] | None) -> str | None:
        """The complaint about a reference to ``name``, if there is one."""
        if known is None or name in known:
            return None
        return f"unknown {kind} {name!r}{nearest(name, known)}"

    def domains_of(self, name: str) -> set[str] | None:
        """Domain ids behind ``all``, an id or a set, or None when that cannot be told."""
        if self.domains is None or self.sets is None:
            return None
        if name == "all":
            return set(self.domains)
        return {name} if name in self.domains else set(self.sets.domains.get(name, ()))


def _entries(reading: Reading, kind: str) -> Iterator[Entry]:
    return (entry for entry in reading.entries[kind] if entry.value is not None)


def _check_not_blank(entry: Entry) -> Iterator[Problem]:
    for name, info in type(entry.value).model_fields.items():
        if info.is_required() and isinstance(value := getattr(entry.value, name), str) and not value.strip():
            yield entry.problem(f"key {name!r} is blank; write it out", name)


def _check_trait(entry: Entry, trait: Trait) -> Iterator[Problem]:
    for index, pattern in enumerate(trait.pattern):
        if pattern.points == 0:
            yield entry.problem(
                "a pattern with 0 points counts for nothing; give it points", "pattern", index, "points"
            )
    if sum(pattern.points > 0 for pattern in trait.pattern) < 2:
        message = f"trait {trait.id!r} has fewer than two patterns with positive points; add what a good reply does"
        yield entry.problem(message, "pattern")
    if not any(pattern.points < 0 for pattern in trait.pattern):
        message = f"trait {trait.id!r} has no pattern with negative points; add what a poor reply does"
        yield entry.problem(message, "pattern")


def _check_eval(entry: Entry, spec: EvalSpec) -> Iterator[Problem]:
    if spec.task and not spec.metric:
        yield entry.problem(f"eval {spec.id!r} names a task but no metric; say which of its scores counts", "task")
    if not spec.task and "items" not in spec.needs:
        yield entry.problem(f"eval {spec.id!r} has no task, so it runs on items; add 'items' to needs", "needs")


def _check_arm(entry: Entry, arm: Arm, names: _Names) -> Iterator[Problem]:
    sets = names.sets
    if sets is not None and names.domains is not None:
        known = ["all", *names.domains, *sets.domains]
        for key in ("domains", "exclude_domains"):
            name = getattr(arm, key)
            if (key == "domains" or name) and (complaint := names.reference("domain or domain set", name, known)):
                yield entry.problem(complaint, key)
        kept, dropped = names.domains_of(arm.domains), names.domains_of(arm.exclude_domains)
        if kept and dropped is not None and not kept - dropped:
            yield entry.problem(f"arm {arm.id!r} excludes every domain it has; leave one in", "exclude_domains")
    if sets is not None and names.traits is not None:
        known = ["all", *names.traits, *sets.traits, *sets.aliases]
        if complaint := names.reference("trait, trait set or alias", arm.traits, known):
            yield entry.problem(complaint, "traits")
    narrowed = (arm.domains, arm.exclude_domains, arm.traits, arm.slice_rubric) != ("all", "", "all", "own")
    if arm.slice == "standard" and narrowed:
        yield entry.problem(f'arm {arm.id!r} shapes a trait slice it does not have; set slice = "traits"', "slice")
    if arm.slice == "traits" and not arm.train:
        yield entry.problem(f"arm {arm.id!r} has a trait slice but train = false; drop one of the two", "train")


def _check_sets(entry: Entry, sets: CatalogSets, names: _Names) -> Iterator[Problem]:
    tables = (
        ("traits", "trait", names.traits),
        ("domains", "domain", names.domains),
        ("aliases", "trait", names.traits),
    )
    for table, kind, known in tables:
        for name, members in getattr(sets, table).items():
            for complaint in _name_complaints(table, name, kind, known, names):
                yield entry.problem(complaint, table, name)
            if not members:
                yield entry.problem(f"{name!r} is empty; name at least one {kind}", table, name)
            for index, member in enumerate(members):
                if member in members[:index]:
                    yield entry.problem(f"{kind} {member!r} stands twice in {name!r}; remove one", table, name, index)
                elif complaint := names.reference(kind, member, known):
                    yield entry.problem(complaint, table, name, index)


def _name_complaints(table: str, name: str, kind: str, known: Collection[str] | None, names: _Names) -> Iterator[str]:
    """What is wrong with the name of a set or an alias: every name must mean one thing."""
    try:
        check_id(name)
    except ValueError as error:
        yield f"{error}; rename it"
    if name == "all":
        yield f"'all' always means every {kind}; give the set another name"
    elif known is not None and name in known:
        yield f"{name!r} is the id of a {kind}, which comes first; give it another name"
    elif table == "aliases" and names.sets is not None and name in names.sets.traits:
        yield f"{name!r} is a set of traits as well, which comes first; give it another name"


def _check_refusals(entry: Entry) -> Iterator[Problem]:
    phrases = entry.value.phrases
    for index, phrase in enumerate(phrases):
        if phrase != " ".join(phrase.lower().split()) or "’" in phrase or not phrase:
            message = (
                f"refusal phrase {phrase!r} must be lower case, single-spaced and with straight apostrophes; rewrite it"
            )
            yield entry.problem(message, "phrases", index)
        elif phrase in phrases[:index]:
            yield entry.problem(f"refusal phrase {phrase!r} stands twice; remove one", "phrases", index)


def _check_personas(reading: Reading) -> Iterator[Problem]:
    merged = {id_: entry for id_, entry in reading.merged("persona").items() if id_}
    for entry in merged.values():
        persona: Persona | None = entry.value
        if persona is None or persona.twin is None:
            continue
        if persona.twin not in merged:
            if "persona" not in reading.unreadable:
                yield entry.problem(f"unknown persona {persona.twin!r}{nearest(persona.twin, merged)}", "twin")
            continue
        twin: Persona | None = merged[persona.twin].value
        if twin is not None and twin.twin != persona.id:
            message = f"persona {twin.id!r} does not name {persona.id!r} as its twin; make it mutual or drop the key"
            yield entry.problem(message, "twin")
        if twin is not None and twin.stance == persona.stance:
            yield entry.problem(f"twin {twin.id!r} is {twin.stance} as well; a twin has the other stance", "twin")


def _check_suites(reading: Reading) -> Iterator[Problem]:
    suites = reading.suites()
    first: dict[str, Entry] = {}
    for rows in suites.values():
        for id_, entry in rows.items():
            other = first.setdefault(id_, entry) if id_ else entry
            if other.value != entry.value:
                where = other.file.path.stem
                yield entry.problem(f"eval id {id_!r} is another row in suite {where!r}; rename one", "id")
    if "eval" in reading.unreadable:
        return
    paper = list(suites.get(PAPER_SUITE, {}).values())
    if paper and len(paper) != PAPER_ROWS:
        message = f"suite {PAPER_SUITE} has {len(paper)} rows, not {PAPER_ROWS}; put rows of your own in another suite"
        added = [entry for entry in paper if entry.layer > 0]
        # A base that is short is complained about at its top, an overlay that adds rows at the first of them.
        yield added[0].problem(message) if added else Problem(file=paper[0].file.path, line=1, message=message)


def _check_strangers(folder: Path, reading: Reading, is_base: bool) -> Iterator[Problem]:
    """Files that no loader reads: a misspelled folder in an overlay would otherwise be passed over in silence."""
    for path in sorted(folder.rglob("*.toml")):
        if path in reading.files:
            continue
        parts = path.relative_to(folder).parts
        if is_base or parts[0] in _READ_ELSEWHERE:
            if isinstance(parsed := parse_toml(path), Problem):
                yield parsed
        else:
            yield Problem(file=path, line=1, message=f"nothing reads a file here{nearest(parts[0], _KNOWN_NAMES)}")
    if not is_base:
        for path in sorted(folder.rglob("*.jsonl")):
            if path.relative_to(folder).parts[:-1] != ("scenarios",):
                yield Problem(file=path, line=1, message="nothing reads a JSONL file here; move it to scenarios/")


def _check_scenarios(folder: Path, names: _Names) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for path in sorted((folder / "scenarios").glob("*.jsonl")):
        for line, raw in enumerate(path.read_bytes().split(b"\n"), 1):
            if raw.strip():
                for message in _scenario_complaints(raw, f"{path.name}:{line}", seen, names):
                    yield Problem(file=path, line=line, message=message)


def _scenario_complaints(raw: bytes, where: str, seen: dict[str, str], names: _Names) -> Iterator[str]:
    try:
        data = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        yield "not UTF-8 text; save the file as UTF-8"
        return
    except json.JSONDecodeError as error:
        yield f"not valid JSON: {error.msg} at column {error.colno}; write one object per line"
        return
    scenario, complaints = validate(Scenario, data)
    yield from (message for _, message in complaints)
    if scenario is None:
        return
    if scenario.id in seen:
        yield f"scenario id {scenario.id!r} is already used at {seen[scenario.id]}; rename or remove one"
    seen.setdefault(scenario.id, where)
    references = [("trait", scenario.trait, names.traits), ("domain", scenario.domain, names.domains)]
    references += [("pressure", pressure, names.pressures) for pressure in scenario.pressures]
    for kind, name, known in references:
        if complaint := names.reference(kind, name, known):
            yield complaint
    for name, exemplar in scenario.exemplars.items():
        if exemplar.verdicts:
            try:
                score_verdicts(scenario.as_rubric(), exemplar.verdicts)
            except ValueError as error:
                yield f"exemplar {name!r}: {error}; give each criterion one verdict"
