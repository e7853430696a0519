"""Errors of devices end a command with their own exit code and word, grouped or not."""

import pytest

from gateway.cli.output import CommandFailed, ExitCode
from gateway.cli.refusals import refusals_told
from gateway.commissioning.session import NotBack, TestRefused
from gateway.devices.guard import GuardReason, GuardRefused
from gateway.model.errors import BadAnswer, DeviceNotSent, DeviceRefused, OutcomeUnknown

ERRORS = [
    (DeviceNotSent("m3", "connection refused"), ExitCode.UNREACHABLE, "D101"),
    (DeviceRefused("m3", "exception 2", 2), ExitCode.REFUSED, "D104"),
    (OutcomeUnknown("m3", "no answer"), ExitCode.UNREACHABLE, "D107"),
    (BadAnswer("m3", "too short"), ExitCode.UNREACHABLE, "D107"),
    (TestRefused("m3", "local", "blocked-by-switching-hierarchy"), ExitCode.REFUSED, "H005"),
    (TestRefused("m3", "held by 7", "locked-by-other-client"), ExitCode.LOCKED, "H010"),
    (GuardRefused("m3", GuardReason.RAMP, "too fast"), ExitCode.REFUSED, "H006"),
    (GuardRefused("m3", GuardReason.LEASE, "held by 7"), ExitCode.LOCKED, "H006"),
    (NotBack("m3", "did not come back"), ExitCode.UNVERIFIED, "H007"),
]


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(("error", "code", "word"), ERRORS, ids=lambda v: str(v))
def test_each_error_has_its_code_and_names_its_device(error, code, word, grouped):
    with pytest.raises(CommandFailed) as caught, refusals_told():
        raise ExceptionGroup("tasks", [ExceptionGroup("inner", [error])]) if grouped else error
    (finding,) = caught.value.findings
    assert (caught.value.exit_code, finding.code, finding.where) == (code, word, "m3")


def test_of_several_what_did_not_come_back_to_zero_is_told():
    several = ExceptionGroup("tasks", [BadAnswer("m2", "short"), NotBack("station", "moves still")])
    with pytest.raises(CommandFailed) as caught, refusals_told():
        raise several
    assert caught.value.findings[0].where == "station"


def test_what_no_device_said_is_left_as_it_is():
    with pytest.raises(ExceptionGroup), refusals_told():
        raise ExceptionGroup("tasks", [BadAnswer("m2", "short"), ZeroDivisionError()])
    with pytest.raises(ZeroDivisionError), refusals_told():
        raise ZeroDivisionError
