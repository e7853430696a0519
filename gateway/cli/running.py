"""Speaks to the gateway that runs on this machine, through its control socket."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from gateway.cli.output import CommandFailed, ExitCode, Finding, fail

READ_ONLY = "SOPGW_READONLY"
_HELP = {
    "no-access-authority": "the site file names under `access` who may",
    "locked-by-other-client": "`sopgw status` shows who holds control and until when",
    "blocked-by-mode": "sopgw mode set test --yes, or on with --confirm",
    "blocked-by-interlocking": "`sopgw status` names what is in the way",
}


def ask_gateway(config_path: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """Send one request to the site's gateway; exit 4 when none answers, 5 or 10 when it refuses."""
    from gateway.cli.door import ask_at, door_of

    path = door_of(config_path)
    try:
        answer = ask_at(path, request)
    except (OSError, ValueError) as error:
        from gateway.config.site_file import load_site

        load_site(config_path)  # a site file with mistakes is said first: no gateway starts with it
        no_gateway(path, config_path, error)
    if not answer.get("ok"):
        refused(answer, path)
    return answer


def no_gateway(path: Path, config_path: Path, error: BaseException) -> NoReturn:
    """End with exit 4: nobody answers."""
    if isinstance(error, PermissionError):
        fail(
            ExitCode.REFUSED,
            f"you may not open {path}",
            code="G005",
            where=str(path),
            help="the site file's `access` names who may ask, without it the service's owner "
            "alone; and the folder's group lets them in: adduser NAME sopgw, then log in anew",
        )
    fail(
        ExitCode.UNREACHABLE,
        f"no gateway answers at {path}",
        code="G001",
        where=str(path),
        help=f"start it with `sopgw run -c {config_path}` ({type(error).__name__})",
    )


def refused(answer: Mapping[str, Any], path: Path) -> NoReturn:
    """End with what the gateway said no with."""
    cause = str(answer.get("cause", ""))
    locked = cause == "locked-by-other-client"
    raise CommandFailed(
        ExitCode.LOCKED if locked else ExitCode.REFUSED,
        [
            Finding(
                code="G006" if locked else "G002",
                message=f"{cause}: {answer.get('error')}",
                where=str(path),
                help=_HELP.get(cause, "nothing was changed"),
            )
        ],
        data={"cause": cause},
    )


def refuse_when_read_only() -> None:
    """End with exit 5 where writing is forbidden to this environment."""
    if os.environ.get(READ_ONLY, "") not in ("", "0"):
        fail(
            ExitCode.REFUSED,
            f"{READ_ONLY} is set: no command of this environment writes to a device",
            code="H001",
            help=f"unset {READ_ONLY}",
        )
