"""Reply + rubric -> grade. This version holds the rule judge; judges behind HTTP plug into the same :class:`Scorer`."""

from traitrl.judging.refusals import RefusalRule as RefusalRule
from traitrl.judging.rules import RuleScorer as RuleScorer
from traitrl.judging.rules import check_reply as check_reply
from traitrl.judging.scorer import Judged as Judged
from traitrl.judging.scorer import Scorer as Scorer
from traitrl.judging.scorer import score_all as score_all
