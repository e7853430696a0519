"""Where a secret of the site file lies."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from gateway.config.shape import Shape, described, wrong


class SecretShape(Shape):
    """Where a secret lies; the secret itself never stands in the site file."""

    file: str | None = described(
        "Path, relative to the site file; mode 0600", trust="engineer", default=None
    )
    secret: str | None = described(
        "Name under $CREDENTIALS_DIRECTORY (systemd) or /etc/sopgw/secrets",
        trust="engineer",
        default=None,
    )


def _one_place(value: Any) -> Any:
    if not isinstance(value, dict):
        raise wrong(
            "kind",
            "a secret does not stand in the site file",
            "write `{file: NAME}` or `{secret: NAME}` and keep it there, mode 0600",
            secret=True,
        )
    given = [name for name in ("file", "secret") if value.get(name) not in (None, "")]
    if len(given) != 1 and not set(value) - {"file", "secret"}:
        raise wrong(
            "missing_part", "give exactly one of `file` and `secret`", "write `{file: ledger.key}`"
        )
    return value


Secret = Annotated[SecretShape, BeforeValidator(_one_place)]
