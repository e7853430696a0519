"""Carries out one operation from the command line: read-only at once, power after consent.

Light: what is heavy is imported when a command runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def sop_option(function: F) -> F:
    """Add ``--sop NAME``."""
    return click.option("--sop", "sop_id", help="Which SOP, where the site has several.")(function)


def power_options(function: F) -> F:
    """Add what lets power move: --yes, --confirm, and the plan `apply` has taken."""
    for option in (
        click.option("--applied", hidden=True, default="", help="Plan taken by `sopgw apply`."),
        click.option("--confirm", default="", metavar="SOP", help="Name of the SOP: carry it out."),
        click.option("-y", "--yes", is_flag=True, help="Carry it out without a plan, if moderate."),
    ):
        function = option(function)
    return function


def typed(words: str, *parameters: str | tuple[str, Any]) -> tuple[str, ...]:
    """Return the command as it would be typed: words, arguments, then options with a value."""
    found = words.split()
    for parameter in parameters:
        if isinstance(parameter, str):
            found.append(parameter)
        elif parameter[1] is True:
            found.append(parameter[0])
        elif parameter[1] not in (None, False, "", ()):
            found += [parameter[0], str(parameter[1])]
    return tuple(found)


def perform(
    name: str,
    given: Mapping[str, Any],
    *,
    config_path: Path,
    sop_id: str | None,
    command: tuple[str, ...] = (),
    yes: bool = False,
    confirm: str = "",
    applied: str = "",
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Run an operation by name and end the command with its outcome.

    The options that every operation has come in under their own names, straight from click;
    ``command`` is what a plan keeps, without them.
    """
    import asyncio

    from gateway.cli import field as fields
    from gateway.cli.operations import OPERATIONS
    from gateway.cli.preview import preview
    from gateway.cli.refusals import refusals_told

    operation = OPERATIONS[name]
    if sop_id is not None and command:
        command = (*command, "--sop", sop_id)

    async def go() -> Any:
        async with fields.opened(config_path, sop_id) as field:
            if operation.station:
                fields.refuse_without_station(field, name)
            if operation.moves is not None:
                lines = operation.lines(field, given) if operation.lines else ()
                targets = operation.moves(field, given)
                shown = await preview(field, targets, command=command, lines=lines)
                await fields.consent(
                    field, shown, fields.Consent(yes=yes, confirm=confirm, applied=applied)
                )
                words = command or tuple(name.split())
                await fields.take_control(field, words, applied=applied)
            before = field.journal.status().size if field.journal else 0
            outcome = await operation.run(field, given)
            after = field.journal.status().size if field.journal else 0
            return outcome, list(range(before, after))

    with refusals_told():
        outcome, entries = asyncio.run(go())
    fields.answer(outcome, extra or {}, entries=entries)
