"""Errors of devices, guards and tests in the words and the exit codes of the command line.

Imported inside commands only: it brings the drivers with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from gateway.cli.output import CommandFailed, ExitCode, Finding, end_of
from gateway.commissioning.session import NotBack, TestRefused
from gateway.devices.guard import GuardReason, GuardRefused
from gateway.model.errors import BadAnswer, DeviceError, OutcomeUnknown


@contextlib.contextmanager
def refusals_told() -> Iterator[None]:
    """Give errors of devices their exit code and AddCause word, those of tasks side by side too."""
    try:
        yield
    except DeviceError as error:
        raise told(error) from None
    except BaseExceptionGroup as several:
        _devices, others = several.split(DeviceError)
        if others is not None:
            raise
        raise told(_gravest(several)) from None


def _gravest(several: BaseExceptionGroup) -> DeviceError:
    """Return what came first; before it what did not come back to zero."""
    flat: list[BaseException] = [several]
    while groups := [e for e in flat if isinstance(e, BaseExceptionGroup)]:
        place = flat.index(groups[0])
        flat[place : place + 1] = groups[0].exceptions
    errors = [e for e in flat if isinstance(e, DeviceError)]
    return next((e for e in errors if isinstance(e, NotBack)), errors[0])


def told(error: DeviceError) -> CommandFailed:
    """Return how a command ends by an error of a device."""
    match error:
        case TestRefused():
            return _test_refused(error)
        case GuardRefused():
            locked = error.reason is GuardReason.LEASE
            return CommandFailed(
                ExitCode.LOCKED if locked else ExitCode.REFUSED,
                [Finding(code="H006", message=error.what, where=error.device)],
                data={"cause": str(error.reason)},
            )
        case NotBack():
            help_text = "look at the device's own display; press its emergency stop if it moves"
            finding = Finding(code="H007", message=error.what, where=error.device, help=help_text)
            return CommandFailed(ExitCode.UNVERIFIED, [finding])
        case OutcomeUnknown() | BadAnswer():
            # Only reads go unanswered here: a write that does is brought to zero first.
            finding = Finding(code="D107", message=error.what, where=error.device)
            return CommandFailed(ExitCode.UNREACHABLE, [finding])
        case _:
            end = end_of(error)
            found = [replace(f, where=error.device, message=error.what) for f in end.findings]
            return CommandFailed(end.exit_code, found)


def _test_refused(refused: TestRefused) -> CommandFailed:
    locked = refused.cause == "locked-by-other-client"
    return CommandFailed(
        ExitCode.LOCKED if locked else ExitCode.REFUSED,
        [
            Finding(
                code="H010" if locked else "H005",
                message=f"{refused.cause}: {refused.what}",
                where=refused.device,
                help="nothing was moved by the refused step; see `sopgw check network`",
            )
        ],
        data={"cause": refused.cause},
    )
