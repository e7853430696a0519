"""Consent to an order that the running service carries out: a plan, ``apply``, --yes, --confirm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.cli.perform import power_options
from gateway.cli.running import ask_gateway, refuse_when_read_only

if TYPE_CHECKING:
    from gateway.cli.field import Field
    from gateway.commissioning.plan import Level

__all__ = ["consented", "power_options"]


def consented(
    words: Sequence[str],
    *,
    config_path: Path,
    level: Callable[[Field], Level],
    lines: Callable[[Field], Sequence[str]],
    yes: bool,
    confirm: str,
    applied: str,
) -> dict[str, Any]:
    """Return what the service compares an applied plan with; ends with exit 6 without consent.

    Args:
        words: the command as it would be typed, without its consent.
        config_path: the site file.
        level: how much it can move, from the site.
        lines: what it would do, for people.
        yes: ``--yes`` was given; enough for what is moderate.
        confirm: the SOP's name as given.
        applied: id of the plan that ``sopgw apply`` has just taken.
    """
    import asyncio

    from gateway.cli import field as fields
    from gateway.cli.refusals import refusals_told

    refuse_when_read_only()
    served = _served(config_path)

    async def go() -> dict[str, Any]:
        async with fields.opened(config_path, served) as field:
            preview = fields.Preview(
                command=tuple(words), level=level(field), lines=tuple(lines(field)), frames=()
            )
            given = fields.Consent(yes=yes, confirm=confirm, applied=applied)
            await fields.consent(field, preview, given)
            if not applied:
                return {}
            taken = field.plans.load(applied, suffix=".applied")
            return {"state": dict(taken.state), "site_sha256": taken.site_sha256}

    with refusals_told():
        return asyncio.run(go())


def _served(config_path: Path) -> str | None:
    """Ask the service which SOP it has, where the site has several; None for its only one."""
    from gateway.config.site_file import load_site

    if len(load_site(config_path).sops) < 2:
        return None
    return str(ask_gateway(config_path, {"verb": "status"})["status"]["sop"])
