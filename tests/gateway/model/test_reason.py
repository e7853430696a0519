"""The words of the code and those of the documentation are the same."""

import re
from pathlib import Path

from gateway.model.reason import Reason, ReasonCode

DOCUMENT = Path(__file__).parents[3] / "docs" / "reasons.md"
# IEC 61850-7-2 AddCause, by number
ADD_CAUSES = [
    "unknown",
    "not-supported",
    "blocked-by-switching-hierarchy",
    "select-failed",
    "invalid-position",
    "position-reached",
    "parameter-change-in-execution",
    "step-limit",
    "blocked-by-mode",
    "blocked-by-process",
    "blocked-by-interlocking",
    "blocked-by-synchrocheck",
    "command-already-in-execution",
    "blocked-by-health",
    "1-of-n-control",
    "abortion-by-cancel",
    "time-limit-over",
    "abortion-by-trip",
    "object-not-selected",
    "object-already-selected",
    "no-access-authority",
    "ended-with-overshoot",
    "abortion-due-to-deviation",
    "abortion-by-communication-loss",
    "blocked-by-command",
    "none",
    "inconsistent-parameters",
    "locked-by-other-client",
]


def rows():
    return re.findall(
        r"^\| `(\w+)` \| (.+?) \| ?(.*?) ?\|$", DOCUMENT.read_text(), flags=re.MULTILINE
    )


def test_every_code_is_documented_once_and_nothing_else_is():
    documented = [code for code, _, _ in rows()]
    assert documented == [c.value for c in ReasonCode]


def test_every_add_cause_bears_its_number():
    named = [cause for _, _, cause in rows() if cause]
    assert named
    for cause in named:
        name, number = re.fullmatch(r"(\S+) \((\d+)\)", cause).groups()
        assert ADD_CAUSES[int(number)] == name


def test_a_reason_reads_as_code_and_detail():
    assert Reason(code=ReasonCode.LATE).text() == "late"
    reason = Reason(code=ReasonCode.GUARD_P, detail="230.0 kW at T2")
    assert reason.text() == "guard_p: 230.0 kW at T2"
    assert reason.fields() == {"code": "guard_p", "detail": "230.0 kW at T2"}
