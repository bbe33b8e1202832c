"""The frozen nouns of the house. Imports nothing but the standard library and pydantic."""

from traitrl.core.arms import Arm as Arm
from traitrl.core.attacks import (
    Attack as Attack,
)
from traitrl.core.attacks import (
    AttackPart as AttackPart,
)
from traitrl.core.attacks import (
    Messages as Messages,
)
from traitrl.core.attacks import (
    Transform as Transform,
)
from traitrl.core.attacks import (
    TuningRow as TuningRow,
)
from traitrl.core.attacks import (
    attack_transform as attack_transform,
)
from traitrl.core.attacks import (
    chain as chain,
)
from traitrl.core.attacks import (
    unchanged as unchanged,
)
from traitrl.core.complaints import (
    complaint as complaint,
)
from traitrl.core.complaints import (
    first_complaint as first_complaint,
)
from traitrl.core.errors import (
    AttackError as AttackError,
)
from traitrl.core.errors import (
    CatalogError as CatalogError,
)
from traitrl.core.errors import (
    ConfigError as ConfigError,
)
from traitrl.core.errors import (
    EngineError as EngineError,
)
from traitrl.core.errors import (
    EvalError as EvalError,
)
from traitrl.core.errors import (
    StoreError as StoreError,
)
from traitrl.core.errors import (
    TraitrlError as TraitrlError,
)
from traitrl.core.errors import (
    WeightsError as WeightsError,
)
from traitrl.core.frozen import Frozen as Frozen
from traitrl.core.grading import (
    MAX_UNGRADED_SHARE as MAX_UNGRADED_SHARE,
)
from traitrl.core.grading import (
    GradeCount as GradeCount,
)
from traitrl.core.grading import (
    Graded as Graded,
)
from traitrl.core.grading import (
    cause_of as cause_of,
)
from traitrl.core.grading import (
    count_grades as count_grades,
)
from traitrl.core.grading import (
    grade_count as grade_count,
)
from traitrl.core.ids import check_id as check_id
from traitrl.core.ids import nearest as nearest
from traitrl.core.records import Record as Record
from traitrl.core.records import Split as Split
from traitrl.core.rubrics import (
    Check as Check,
)
from traitrl.core.rubrics import (
    Criterion as Criterion,
)
from traitrl.core.rubrics import (
    Grade as Grade,
)
from traitrl.core.rubrics import (
    Rubric as Rubric,
)
from traitrl.core.rubrics import (
    Verdict as Verdict,
)
from traitrl.core.rubrics import (
    grade_from_verdicts as grade_from_verdicts,
)
from traitrl.core.rubrics import (
    score_verdicts as score_verdicts,
)
from traitrl.core.rubrics import (
    ungraded as ungraded,
)
from traitrl.core.scenarios import (
    EvalItem as EvalItem,
)
from traitrl.core.scenarios import (
    Exemplar as Exemplar,
)
from traitrl.core.scenarios import (
    Message as Message,
)
from traitrl.core.scenarios import (
    Scenario as Scenario,
)
from traitrl.core.scenarios import (
    StandardPrompt as StandardPrompt,
)
from traitrl.core.suite import EvalSpec as EvalSpec
from traitrl.core.taxonomy import (
    CatalogSets as CatalogSets,
)
from traitrl.core.taxonomy import (
    Domain as Domain,
)
from traitrl.core.taxonomy import (
    Persona as Persona,
)
from traitrl.core.taxonomy import (
    Pressure as Pressure,
)
from traitrl.core.taxonomy import (
    Trait as Trait,
)
