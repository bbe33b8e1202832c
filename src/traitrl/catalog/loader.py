"""From folders of data files to one frozen :class:`Catalog`: the package's data, then overlays of the same layout.

    traits/<id>.toml  domains/<id>.toml  personas/<id>.toml      one entity per file, named after its id
    pressures.toml [[pressure]]  arms.toml [[arm]]  suite/<name>.toml [[eval]]
    sets.toml [traits] [domains] [aliases]  refusals.toml phrases

An overlay adds entries, or replaces those of the same id in place; sets and aliases merge by name; refusals add up.
"""

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from traitrl.catalog.locate import Loc, explain, key_lines, line_of, syntax_line
from traitrl.core.arms import Arm
from traitrl.core.errors import CatalogError
from traitrl.core.frozen import Frozen
from traitrl.core.ids import Id, nearest
from traitrl.core.suite import EvalSpec
from traitrl.core.taxonomy import CatalogSets, Domain, Persona, Pressure, Trait

PACKAGE_DATA = Path(__file__).parent

_T = TypeVar("_T")


class Problem(Frozen):
    """One defect of a data file: ``line`` counts from 1, ``message`` says what is wrong and what to do."""

    file: Path
    line: int = Field(ge=1)
    message: str

    def __str__(self) -> str:
        """``file:line: message``, which editors and terminals link."""
        return f"{self.file}:{self.line}: {self.message}"


class Catalog(Frozen):
    """Everything the catalog knows, by id. Shared and cached: do not change the dicts in place."""

    traits: dict[Id, Trait]
    domains: dict[Id, Domain]
    pressures: dict[Id, Pressure]
    personas: dict[Id, Persona]
    arms: dict[Id, Arm]
    evals: dict[str, tuple[EvalSpec, ...]]
    sets: CatalogSets
    refusals: tuple[str, ...]

    def resolve_traits(self, name: str) -> tuple[str, ...]:
        """Trait ids behind ``all`` (every trait, overlays included), a trait id, a set or an alias.

        Raises :class:`CatalogError` for an unknown name.
        """
        return _resolve("trait", name, self.traits, {**self.sets.aliases, **self.sets.traits})

    def resolve_domains(self, name: str) -> tuple[str, ...]:
        """Domain ids behind ``all`` (every domain, overlays included), a domain id or a set.

        Raises :class:`CatalogError` for an unknown name.
        """
        return _resolve("domain", name, self.domains, self.sets.domains)

    def arm_domains(self, arm_id: str) -> tuple[str, ...]:
        """The domains of an arm's slice: ``domains`` without ``exclude_domains``."""
        arm = self.arm(arm_id)
        excluded = self.resolve_domains(arm.exclude_domains) if arm.exclude_domains else ()
        return tuple(domain for domain in self.resolve_domains(arm.domains) if domain not in excluded)

    def trait(self, trait_id: str) -> Trait:
        """One trait. Raises :class:`CatalogError` for an unknown id, as do all look-ups here."""
        return _look_up("trait", trait_id, self.traits)

    def domain(self, domain_id: str) -> Domain:
        """One domain."""
        return _look_up("domain", domain_id, self.domains)

    def pressure(self, pressure_id: str) -> Pressure:
        """One pressure."""
        return _look_up("pressure", pressure_id, self.pressures)

    def persona(self, persona_id: str) -> Persona:
        """One persona."""
        return _look_up("persona", persona_id, self.personas)

    def arm(self, arm_id: str) -> Arm:
        """One arm."""
        return _look_up("arm", arm_id, self.arms)

    def suite(self, name: str) -> tuple[EvalSpec, ...]:
        """The rows of one suite, in the order of its file."""
        return _look_up("suite", name, self.evals)


def load_catalog(overlays: Sequence[Path] = ()) -> Catalog:
    """The package's catalog with ``overlays`` laid over it in order; read once per process and set of overlays.

    Raises :class:`CatalogError` with file and line when a data file is malformed. References between files are for
    :func:`traitrl.catalog.check.check_catalog` to judge, or raise when they are resolved.
    """
    return _load(tuple(Path(overlay).resolve() for overlay in overlays))


@cache
def _load(overlays: tuple[Path, ...]) -> Catalog:
    reading = read_folders((PACKAGE_DATA, *overlays))
    if reading.problems:
        more = len(reading.problems) - 1
        others = f" ({more} more; `traitrl check` lists them all)" if more else ""
        raise CatalogError(f"{reading.problems[0]}{others}")
    return reading.catalog()


def _look_up(kind: str, name: str, known: dict[str, _T]) -> _T:
    if name not in known:
        raise CatalogError(f"unknown {kind} {name!r}{nearest(name, known)}")
    return known[name]


def _resolve(kind: str, name: str, known: dict[str, Any], groups: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    if name == "all":
        return tuple(known)
    if name in known:
        return (name,)
    if name not in groups:
        raise CatalogError(f"unknown {kind} or set of {kind}s {name!r}{nearest(name, ['all', *known, *groups])}")
    for member in groups[name]:
        if member not in known:
            raise CatalogError(f"set {name!r} names the unknown {kind} {member!r}{nearest(member, known)}")
    return groups[name]


class SetsFile(Frozen):
    """sets.toml: in an overlay every table may be absent."""

    traits: dict[str, tuple[Id, ...]] = Field(default_factory=dict)
    domains: dict[str, tuple[Id, ...]] = Field(default_factory=dict)
    aliases: dict[str, tuple[Id, ...]] = Field(default_factory=dict)


class RefusalsFile(Frozen):
    """refusals.toml: how refusals open."""

    phrases: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """A kind of data file: where its files lie, the model of one entry, and the array of tables if it has one."""

    name: str
    pattern: str
    model: type[Frozen]
    table: str = ""
    has_id: bool = True


KINDS = (
    Kind("trait", "traits/*.toml", Trait),
    Kind("domain", "domains/*.toml", Domain),
    Kind("persona", "personas/*.toml", Persona),
    Kind("pressure", "pressures.toml", Pressure, table="pressure"),
    Kind("arm", "arms.toml", Arm, table="arm"),
    Kind("eval", "suite/*.toml", EvalSpec, table="eval"),
    Kind("sets", "sets.toml", SetsFile, has_id=False),
    Kind("refusals", "refusals.toml", RefusalsFile, has_id=False),
)


@dataclass(frozen=True)
class DataFile:
    """A TOML file that parsed."""

    path: Path
    text: str
    data: dict[str, Any]

    @cached_property
    def lines(self) -> dict[Loc, int]:
        """Line of every key; scanned only when somebody asks."""
        return key_lines(self.text)

    def problem(self, loc: Loc, message: str) -> Problem:
        """A problem at a key of this file."""
        return Problem(file=self.path, line=line_of(self.lines, loc), message=message)


@dataclass(frozen=True)
class Entry:
    """One entry of a data file. ``value`` is None where the schema refused it; its id then still counts as known."""

    file: DataFile
    at: Loc
    id: str
    value: Any
    layer: int = 0

    def problem(self, message: str, *loc: str | int) -> Problem:
        """A problem at a key of this entry."""
        return self.file.problem((*self.at, *loc), message)


@dataclass
class Reading:
    """All entries of all folders, later folders last, and what was wrong with the files one by one.

    ``unreadable`` names the kinds of which a file could not even be parsed: references to them cannot be judged.
    """

    problems: list[Problem] = field(default_factory=list)
    entries: dict[str, list[Entry]] = field(default_factory=lambda: {kind.name: [] for kind in KINDS})
    files: set[Path] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)

    def merged(self, kind: str) -> dict[str, Entry]:
        """Entries by id; a later one replaces an earlier one in place."""
        return {entry.id: entry for entry in self.entries[kind]}

    def suites(self) -> dict[str, dict[str, Entry]]:
        """Eval rows by suite and id, merged."""
        suites: dict[str, dict[str, Entry]] = {}
        for entry in self.entries["eval"]:
            suites.setdefault(entry.file.path.stem, {})[entry.id] = entry
        return suites

    def sets(self) -> CatalogSets:
        """The sets of all folders, merged by name."""
        tables: dict[str, dict[str, tuple[str, ...]]] = {"traits": {}, "domains": {}, "aliases": {}}
        for entry in self.entries["sets"]:
            if entry.value is not None:
                for name, table in tables.items():
                    table.update(getattr(entry.value, name))
        return CatalogSets(**tables)

    def catalog(self) -> Catalog:
        """The merged catalog; only after a reading without problems."""
        values = {
            kind.name: {id_: e.value for id_, e in self.merged(kind.name).items()} for kind in KINDS if kind.has_id
        }
        phrases = (phrase for entry in self.entries["refusals"] for phrase in entry.value.phrases)
        return Catalog(
            traits=values["trait"],
            domains=values["domain"],
            pressures=values["pressure"],
            personas=values["persona"],
            arms=values["arm"],
            evals={name: tuple(entry.value for entry in rows.values()) for name, rows in self.suites().items()},
            sets=self.sets(),
            refusals=tuple(dict.fromkeys(phrases)),
        )


def read_folders(folders: Sequence[Path]) -> Reading:
    """Read and validate every TOML file of the known kinds, never stopping at a defect."""
    reading = Reading()
    for layer, folder in enumerate(folders):
        if not folder.is_dir():
            reading.problems.append(
                Problem(file=folder, line=1, message="no such folder; a catalog overlay is a directory")
            )
            continue
        for kind in KINDS:
            for path in sorted(folder.glob(kind.pattern)):
                _read_file(reading, kind, path, layer)
    return reading


def parse_toml(path: Path) -> DataFile | Problem:
    """The parsed file, or the one problem that kept it from being parsed."""
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        return Problem(file=path, line=line, message="not UTF-8 text; save the file as UTF-8")
    text = text.replace("\r\n", "\n")
    try:
        return DataFile(path, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        return Problem(
            file=path, line=syntax_line(str(error), text), message=f"not valid TOML: {error}; correct the syntax"
        )


def validate(model: type[Frozen], data: Any) -> tuple[Any, list[tuple[Loc, str]]]:
    """``(value, [])``, or ``(None, complaints)`` with the path of each. Strict: ``"8"`` is no number."""
    try:
        return model.model_validate_json(json.dumps(data, default=str), strict=True), []
    except ValidationError as error:
        return None, [(details["loc"], explain(details, model)) for details in error.errors()]


def _read_file(reading: Reading, kind: Kind, path: Path, layer: int) -> None:
    reading.files.add(path)
    parsed = parse_toml(path)
    if isinstance(parsed, Problem):
        reading.problems.append(parsed)
        reading.unreadable.add(kind.name)
        return
    if not kind.table:
        rows: list[tuple[Loc, Any]] = [((), parsed.data)]
    else:
        rows = _rows(reading, kind, parsed)
    seen: dict[str, Entry] = {}
    for at, data in rows:
        value, complaints = validate(kind.model, data)
        reading.problems.extend(parsed.problem((*at, *loc), message) for loc, message in complaints)
        id_ = data.get("id", "") if isinstance(data, dict) else ""
        entry = Entry(parsed, at, id_ if isinstance(id_, str) else "", value, layer)
        reading.entries[kind.name].append(entry)
        if kind.has_id and entry.id:
            _check_id(reading, kind, entry, seen)


def _rows(reading: Reading, kind: Kind, file: DataFile) -> list[tuple[Loc, Any]]:
    """The rows of a file that is one array of tables."""
    for key in file.data:
        if key != kind.table:
            message = f"unknown key {key!r}; this file holds [[{kind.table}]] tables only"
            reading.problems.append(file.problem((key,), message))
    rows = file.data.get(kind.table, [])
    if not isinstance(rows, list):
        message = f"[{kind.table}] must be written [[{kind.table}]], one per entry"
        reading.problems.append(file.problem((kind.table,), message))
        return []
    return [((kind.table, index), row) for index, row in enumerate(rows)]


def _check_id(reading: Reading, kind: Kind, entry: Entry, seen: dict[str, Entry]) -> None:
    """An id is used once per folder; a one-entity file is named after it."""
    if not kind.table:
        others = (other for other in reading.entries[kind.name] if other.layer == entry.layer and other is not entry)
        seen = {other.id: other for other in others}
    if entry.id in seen:
        first = seen[entry.id].problem("", "id")
        message = f"{kind.name} id {entry.id!r} is already used at {first.file.name}:{first.line}; rename or remove one"
        reading.problems.append(entry.problem(message, "id"))
    elif not kind.table and entry.file.path.stem != entry.id:
        message = f"{kind.name} id {entry.id!r} differs from the file name; name the file {entry.id}.toml"
        reading.problems.append(entry.problem(message, "id"))
    seen.setdefault(entry.id, entry)
