"""``sopgw access``: who has which role at the running gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.cli.output import command, emit, site_option
from gateway.cli.running import ask_gateway


@command(
    "access",
    schema="access",
    examples=(
        ("sopgw access -c site.yaml", "each role with its people, and what it allows"),
        ("sopgw access -c site.yaml --json", "for an audit"),
    ),
)
@site_option
def access(config_path: Path) -> None:
    """List the roles in force, their people and what each may; for engineers and security.

    Roles are given in the site file under `access`; a change counts from the next start on.
    """
    from gateway.core.access import ALLOWED, Role, allowed

    members = ask_gateway(config_path, {"verb": "access"})["members"]
    rows = [
        {
            "role": role.value,
            "members": list(members.get(role.value, [])),
            "may": [verb for verb in ALLOWED if allowed([role], verb)],
        }
        for role in Role
    ]
    emit({"roles": rows, "owner_only": not any(members.values())}, text=lambda: text_of(rows))


def text_of(rows: Sequence[Mapping[str, object]]) -> str:
    """Write the roles for people."""
    lines = []
    for row in rows:
        named, may = row["members"], row["may"]
        assert isinstance(named, list), "rows are made above"
        assert isinstance(may, list), "rows are made above"
        lines.append(f"{row['role']:<9} {', '.join(named) or '–'}")
        lines.append(f"{'':<9} may {', '.join(may)}")
    if not any(row["members"] for row in rows):
        lines.append("No roles in the site file: the service's owner alone, as engineer.")
    return "\n".join(lines)
