"""Speaks to the gateway that runs on this machine, through its control socket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.cli.output import ExitCode, fail


def ask_gateway(config_path: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """Send one request to the site's gateway; exit 4 when none answers, 5 when it refuses."""
    from gateway.app import control_path
    from gateway.config.site_file import load_site
    from gateway.runtime.control import ask

    path = control_path(load_site(config_path))
    try:
        answer = asyncio.run(ask(path, request))
    except (OSError, TimeoutError) as error:
        fail(
            ExitCode.UNREACHABLE,
            f"no gateway answers at {path}",
            code="G001",
            help=f"start it with `sopgw run -c {config_path}` ({type(error).__name__})",
        )
    if not answer.get("ok"):
        fail(ExitCode.REFUSED, str(answer.get("error")), code="G002")
    return answer
