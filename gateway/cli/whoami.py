"""``sopgw whoami``: who the running gateway takes you for, what you may, who holds control."""

from __future__ import annotations

from pathlib import Path

from gateway.cli.output import command, emit, site_option
from gateway.cli.running import ask_gateway


@command(
    "whoami",
    schema="whoami",
    examples=(
        ("sopgw whoami -c site.yaml", "your roles, what they allow, who holds control"),
        ("sopgw whoami -c site.yaml --json", "the same for a program"),
    ),
)
@site_option
def whoami(config_path: Path) -> None:
    """Say who you are to the running gateway, what you may order and who holds control.

    The gateway believes the kernel, not a name: it is the user of this process.
    """
    from gateway.core.access import ALLOWED, Role, allowed

    found = ask_gateway(config_path, {"verb": "whoami"})
    roles = [Role(role) for role in found["roles"]]
    may = [verb for verb in ALLOWED if allowed(roles, verb)]
    control = None
    if "status" in may:
        control = ask_gateway(config_path, {"verb": "status"})["status"]["control"]
    data = {
        "user": found["user"],
        "roles": found["roles"],
        "may": may,
        "may_not": [verb for verb in ALLOWED if verb not in may],
        "control": control,
    }

    def text() -> str:
        from gateway.cli.status import holder_text

        lines = [
            f"{data['user']}   {', '.join(found['roles'])}",
            f"May      {', '.join(may)}",
            *([f"May not  {', '.join(data['may_not'])}"] if data["may_not"] else []),
            *([f"Control  {holder_text(control)}"] if control else []),
        ]
        return "\n".join(lines)

    emit(data, text=text)
