"""``sopgw cheat``: the commands of an occasion, in the order they are typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from gateway.cli.output import command, emit

Line = tuple[str, str]
SHEETS: Mapping[str, Sequence[Line]] = {
    "commission": (
        ("sopgw init /etc/sopgw", "a commented site file, mode blocked"),
        ("sopgw doctor", "is the host ready? each line has a mend"),
        ("sopgw scan all --subnet 192.168.10.0/24", "who answers; only reads"),
        ("sopgw device add station --from scan:1 --yes", "into the site file"),
        ("sopgw device add m1 --from scan:2 --yes", "once for every device found"),
        ("sopgw config check", "every mistake at once"),
        ("sopgw mode set blocked --yes", "all is computed, nothing written"),
        ("sopgw sat new --plan sop-lv --witness 'DSO witness'", "acceptance begins"),
        ("sopgw sat run", "goes on where it stopped"),
        ("sopgw sat report --pdf", "the same run, the same bytes"),
        ("sopgw sat sign", "by your SSH agent, and anchored"),
    ),
    "fault": (
        ("sopgw stop", "to zero, never asks; not an emergency stop"),
        ("sopgw status", "mode, state and what is in the way"),
        ("sopgw alarm ls", "the most urgent first, with what to do"),
        ("sopgw doctor devices", "does everybody answer?"),
        ("sopgw trade ls", "which trades it concerns"),
        ("sopgw trade explain trd-6", "why one fell short"),
        ("sopgw instr trace 0x27574359", "what was sent, answered and read back"),
        ("sopgw arm --confirm SOP-1", "power may flow again"),
        ("sopgw support bundle", "for a maintainer, secrets left out"),
    ),
    "meter": (
        ("sopgw point get m1", "every value, with its quality"),
        ("sopgw point decode m1 input/0 --expect 230V±13%", "every plausible decoding"),
        ("sopgw check scale m1 --ref v1=231.2V±0.1V", "against the meter's own display"),
        ("sopgw check signs m1", "import or export, minutes, no writes"),
        ("sopgw check wiring m1 --inject 10kW", "a plan: CTs by a small injected power"),
        ("sopgw test hold T2 --power 10kW --for 5min", "a plan: to read a clamp meter"),
    ),
    "power": (
        ("sopgw whoami", "what you may, and who holds control"),
        ("sopgw mode set test --yes", "tests and setpoints by hand, no trades"),
        ("sopgw test step T2 --to 25kW", "prints a plan with the exact frame, exit 6"),
        ("sopgw plan ls", "what waits; each lives two minutes"),
        ("sopgw apply p-7K3A", "if the state is still the same"),
        ("sopgw point set T2 p=10kW --for 60s --yes", "through the service; ends by itself"),
        ("sopgw limits set T2 --p-max 100kW --why 'cable works'", "a second engineer confirms"),
        ("sopgw mode set on --confirm SOP-1", "trades move power again"),
    ),
}


@command(
    "cheat",
    schema="cheat",
    examples=(
        ("sopgw cheat commission", "from an unknown cabinet to a signed report"),
        ("sopgw cheat", "the occasions there are"),
    ),
)
@click.argument("topic", required=False, type=click.Choice(list(SHEETS)))
def cheat(topic: str | None) -> None:
    """Print the commands of an occasion, in the order they are typed."""
    chosen = {topic: SHEETS[topic]} if topic else SHEETS
    data = {
        name: [{"command": line, "what": what} for line, what in rows]
        for name, rows in chosen.items()
    }
    emit({"topics": data}, text=lambda: "\n\n".join(_sheet(*item) for item in chosen.items()))


def _sheet(name: str, rows: Sequence[Line]) -> str:
    width = max(len(line) for line, _ in rows)
    return "\n".join([name, *(f"  {line:<{width}}  {what}" for line, what in rows)])
