"""The persistence section of a study: which attacks at which strengths, and what is asked under them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from traitrl.core import Frozen
from traitrl.core.attacks import Stance
from traitrl.core.ids import Id
from traitrl.judging import JudgeChoice
from traitrl.persistence.fetch import check_reference, shown
from traitrl.training.config import TrainingConfig, TuningConfig


class PromptAttackConfig(Frozen):
    """A prompt attack and the settings of its dial, in (0, 1]; none means the attack's own.

    ``compose`` makes a new attack out of others: in the conversation, their parts follow one another in the order given.
    ``domain_families`` are the eval families of the attack's own domain: damage there is in-domain, elsewhere out-of-domain.
    ``items_per_row`` is the attack's own, 0 for the section's. Only runs of ``experiments`` are attacked, all of them with none.
    """

    id: Id
    experiments: tuple[Id, ...] = ()
    items_per_row: int = Field(default=0, ge=0)
    strengths: tuple[float, ...] = ()
    compose: tuple[Id, ...] = ()
    domain_families: tuple[str, ...] = ()

    @field_validator("strengths")
    @classmethod
    def _dial(cls, strengths: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(strengths)) != len(strengths) or any(not 0.0 < strength <= 1.0 for strength in strengths):
            raise ValueError(f"strengths are distinct and lie in (0, 1], got {list(strengths)}")
        return strengths


class AttackOnWeights(Frozen):
    """What attacks that train the model further have in common, by whatever method: data of their own, and doses as strength.

    ``data`` is a path, an ``https://`` address, or ``hf://datasets/ORG/NAME@COMMIT/PATH`` for a file of a hub data set, as
    :mod:`traitrl.persistence.data` reads it. ``sha256`` pins its bytes, and may be left out only for a file that the study's
    world writes. ``after`` starts from the highest dose of another attack instead of the arm's own checkpoint, for instance
    to measure recovery. ``items_per_row`` is the attack's own, 0 for the section's. Only runs of ``experiments`` are attacked, or
    all.
    """

    id: Id
    experiments: tuple[Id, ...] = ()
    items_per_row: int = Field(default=0, ge=0)
    stance: Stance
    title: str = ""
    twin: Id | None = None
    data: str
    sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    after: Id | None = None
    domain_families: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _pinned(self) -> AttackOnWeights:
        if not self.sha256 and not self.data.startswith("@"):
            raise ValueError(f"attack {self.id!r}: pin {shown(self.data)} with its sha256 (`sha256sum` prints it)")
        check_reference(self.data)
        return self


class TuningAttackConfig(AttackOnWeights, TuningConfig):
    """Fine-tuning as an attack, its twin, or drift: the strength is the dose in optimizer steps.

    The rows of ``data`` are conversations that end with the reply to be learned. Rows that hold it in other columns than the
    usual ones are read by ``prompt_column`` and ``reply_column``.
    """

    kind: Literal["tuning", "drift"] = "tuning"
    prompt_column: str = ""
    reply_column: str = ""

    @model_validator(mode="after")
    def _makes_sense(self) -> TuningAttackConfig:
        if self.kind == "drift" and self.stance != "benign":
            raise ValueError(f"attack {self.id!r}: drift is benign; use kind 'tuning'")
        if bool(self.prompt_column) != bool(self.reply_column):
            raise ValueError(f"attack {self.id!r}: give prompt_column and reply_column, or neither")
        return self

    def tuning(self) -> TuningConfig:
        """The engine's part of it."""
        return TuningConfig.model_validate(self.model_dump(include=set(TuningConfig.model_fields)))


class RlAttackConfig(AttackOnWeights, TrainingConfig):
    """RL as an attack, or its twin, through the engine that trains arms: the strength is the dose in optimizer steps.

    The rows of ``data`` are prompts with rubrics, :class:`~traitrl.core.StandardPrompt`; an attack's criteria pay for what
    can be hacked, its twin's for the honest reply to the same prompts. ``judge`` grades the replies; it is the rules unless
    named. One run of ``doses[-1]`` steps with a checkpoint after each dose; every prompt is the attack's, there is no slice.
    """

    kind: ClassVar[Literal["tuning"]] = "tuning"
    doses: tuple[int, ...] = Field(min_length=1, description="optimizer steps, ascending")
    judge: JudgeChoice = JudgeChoice()

    @field_validator("judge", mode="before")
    @classmethod
    def _judge_by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _as_long_as_its_doses(cls, given: Any) -> Any:
        """Fill in what of :class:`TrainingConfig` follows from the doses; refuse what would contradict them."""
        doses = given.get("doses") if isinstance(given, dict) else None
        if not isinstance(doses, list | tuple) or not doses:
            return given
        if any(not isinstance(dose, int) for dose in doses) or doses[0] < 1 or list(doses) != sorted(set(doses)):
            raise ValueError(f"doses must ascend from 1 or more, got {list(doses)}")
        implied = {"steps": doses[-1], "checkpoints": 1, "share": 0.0, "watch_every": 0}
        stray = [name for name, value in implied.items() if given.get(name, value) != value]
        if stray:
            raise ValueError(f"RL as an attack has doses and neither slice nor watch; drop {', '.join(stray)}")
        return {**given, **implied}

    @property
    def checkpoint_steps(self) -> tuple[int, ...]:
        """Steps after which a checkpoint is kept."""
        return self.doses


_AnyAttack = TypeVar("_AnyAttack", bound=PromptAttackConfig | AttackOnWeights)


class PersistenceConfig(Frozen):
    """What is attacked, and what is asked under attack: ``items_per_row`` items of the suite rows in ``families`` or ``rows``.

    ``attacks`` is a file of prompt attacks, one :class:`~traitrl.core.Attack` a line; without it ids name personas of the
    catalog. ``tuning`` are attacks by supervised fine-tuning, ``rl`` by reinforcement learning. ``near_duplicate`` is the share
    of common word trigrams (Jaccard) from which on an attack's conversation counts as one that was trained on or is evaluated.
    """

    attacks: str | None = None
    families: tuple[str, ...] = ()
    rows: tuple[Id, ...] = ()
    items_per_row: int = Field(default=8, ge=1)
    judge_sees_attack: bool = False
    near_duplicate: float = Field(default=0.6, gt=0.0, le=1.0)
    prompt: tuple[PromptAttackConfig, ...] = ()
    tuning: tuple[TuningAttackConfig, ...] = ()
    rl: tuple[RlAttackConfig, ...] = ()

    @property
    def on_weights(self) -> tuple[TuningAttackConfig | RlAttackConfig, ...]:
        """Attacks that train the model further, in the order in which they run."""
        return (*self.tuning, *self.rl)

    @property
    def every_attack(self) -> tuple[PromptAttackConfig | TuningAttackConfig | RlAttackConfig, ...]:
        """All attacks of the section, whatever they do."""
        return (*self.prompt, *self.on_weights)

    @property
    def own_items(self) -> dict[str, int]:
        """Items per row of the attacks that state a number of their own."""
        return {attack.id: attack.items_per_row for attack in self.every_attack if attack.items_per_row}

    def on(self, experiment: str) -> PersistenceConfig:
        """The section with the attacks on runs of one experiment alone."""
        return self._with(lambda attack: attack if not attack.experiments or experiment in attack.experiments else None)

    def everywhere(self) -> PersistenceConfig:
        """The section with every attack on every run, whatever its experiments."""
        return self._with(lambda attack: attack.model_copy(update={"experiments": ()}))

    def _with(self, change: Callable[[_AnyAttack], _AnyAttack | None]) -> PersistenceConfig:
        """The section with every attack changed; those that become None are left out."""
        kinds = {"prompt": self.prompt, "tuning": self.tuning, "rl": self.rl}
        changed = {kind: tuple(filter(None, map(change, attacks))) for kind, attacks in kinds.items()}
        return self.model_copy(update=changed)

    @model_validator(mode="after")
    def _attacks_distinct(self) -> PersistenceConfig:
        ids = [attack.id for attack in self.every_attack]
        if len(set(ids)) != len(ids) or "none" in ids:
            raise ValueError(f"ids of attacks must be distinct and not 'none', got {', '.join(ids)}")
        if not self.families and not self.rows:
            raise ValueError("name the suite rows to ask under attack, by `families`, `rows` or both")
        for place, attack in enumerate(self.on_weights):
            earlier = {each.id: each for each in self.on_weights[:place]}
            if attack.after and attack.after not in earlier:
                raise ValueError(
                    f"attack {attack.id!r} comes after {attack.after!r}, which no earlier [[tuning]] or [[rl]] has as id; "
                    "all of [[tuning]] run before [[rl]]"
                )
            first = set(earlier[attack.after].experiments) if attack.after else set[str]()
            if first and not (attack.experiments and first.issuperset(attack.experiments)):
                raise ValueError(
                    f"attack {attack.id!r} comes after {attack.after!r}, so it can only have experiments of that: "
                    f"{', '.join(sorted(first))}"
                )
        return self
