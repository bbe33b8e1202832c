"""A refusal label by phrase: whether a reply declines to help."""

from collections.abc import Sequence

from traitrl.core import Check
from traitrl.judging.rules import check_reply


class RefusalRule:
    """Labels a reply a refusal when one of ``phrases`` occurs in it as whole words."""

    def __init__(self, phrases: Sequence[str]) -> None:
        """Raises ``ValueError`` for an empty list, which would label nothing."""
        if not phrases:
            raise ValueError("a refusal rule needs at least one phrase")
        self._check = Check(kind="contains", values=tuple(phrases))

    def is_refusal(self, reply: str) -> bool:
        """True for a refusal."""
        return check_reply(self._check, reply)
