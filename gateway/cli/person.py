"""The person at this terminal: asked at the panel, told what was seen."""

from __future__ import annotations

import asyncio
import sys

import click

from gateway.cli.output import note
from gateway.commissioning.runs.person import Answer
from gateway.commissioning.sat.plan import Step


class Terminal:
    """A person at this terminal; without one every question is left open."""

    @property
    def there(self) -> bool:
        """Tell whether somebody can be asked."""
        return sys.stdin.isatty()

    async def witness(self, step: Step) -> str:
        """Ask at a hold point who witnesses; Enter alone stops there."""
        text = await asyncio.to_thread(
            click.prompt,
            f"  step {step.id}, {step.title}, is a hold point. Who witnesses? (Enter: stop here)",
            default="",
            show_default=False,
            prompt_suffix=" ",
            err=True,
        )
        return str(text).strip()

    async def ask(self, what: str) -> Answer:
        """Ask and wait; Enter means done."""
        if not self.there:
            return Answer.SKIP
        text = await asyncio.to_thread(
            click.prompt,
            f"     {what}, then press Enter.   [s]kip  [f]ail  [q]uit",
            default="",
            show_default=False,
            prompt_suffix=" ",
            err=True,
        )
        words = {"s": Answer.SKIP, "f": Answer.FAIL, "q": Answer.QUIT}
        return words.get(text.strip().lower()[:1], Answer.DONE)

    def tell(self, what: str) -> None:
        """Say what was seen."""
        note(f" {what}")
