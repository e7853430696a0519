"""What a check says: a finding names the fault, where it is and how to mend it.

Findings are data for the command line, the run record and the report; nothing here prints.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass


class Verdict(enum.StrEnum):
    """The answer of a check; ``undecided`` is an honest answer, a guess is not."""

    OK = "ok"
    FAULT = "fault"
    UNDECIDED = "undecided"


class Punch(enum.StrEnum):
    """When an open finding must be closed.

    A stops energising or acceptance, B before take-over, C after it.
    """

    A = "A"
    B = "B"
    C = "C"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong: a word for programs, a sentence for people, the mend."""

    code: str  # a word such as ``ct-reversed``; scripts match on it
    where: str  # device, phase or point
    what: str
    mend: str
    punch: Punch = Punch.B

    def data(self) -> dict[str, str]:
        """Return the JSON form."""
        return {
            "code": self.code,
            "where": self.where,
            "what": self.what,
            "mend": self.mend,
            "punch": self.punch.value,
        }


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return FAULT if any is, else UNDECIDED if any is or there are none, else OK."""
    if Verdict.FAULT in verdicts:
        return Verdict.FAULT
    if Verdict.UNDECIDED in verdicts or not verdicts:
        return Verdict.UNDECIDED
    return Verdict.OK
