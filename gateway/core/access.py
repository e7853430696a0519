"""Who may ask for what: roles and the one table of verbs; what is not in it is denied."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


class Role(enum.StrEnum):
    """What a person is on this site; one person may have several."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ENGINEER = "engineer"
    SECADM = "secadm"  # looks after the roles, commands nothing
    SECAUD = "secaud"  # reads the audit, commands nothing


_SEES = frozenset({Role.VIEWER, Role.OPERATOR, Role.ENGINEER})
_OPERATES = frozenset({Role.OPERATOR, Role.ENGINEER})
_ENGINEERS = frozenset({Role.ENGINEER})
_SECURITY = frozenset({Role.SECADM, Role.SECAUD})

ALLOWED: Mapping[str, frozenset[Role]] = {
    "status": _SEES,
    "alarms": _SEES,
    "limits": _SEES,
    "entries": _SEES,
    "whoami": frozenset(Role),
    "access": _SECURITY | _ENGINEERS,
    "stop": _SEES,  # whoever may look may stop: stopping is always allowed
    "arm": _OPERATES,
    "mode": _OPERATES,
    "ack": _OPERATES,
    "shelve": _OPERATES,
    "unshelve": _OPERATES,
    "setpoint": _ENGINEERS,
    "borrow": _ENGINEERS,
    "limits.propose": _ENGINEERS,
    "limits.confirm": _ENGINEERS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who is at the other end, as the kernel knows it."""

    user: str  # as it stands in the ledger: uid:1000
    roles: frozenset[Role]


def allowed(roles: Iterable[Role], verb: str) -> bool:
    """Tell whether one of the roles may ask for a verb; an unknown verb is for nobody."""
    return not ALLOWED.get(verb, frozenset()).isdisjoint(roles)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The role map of a site: names like ``user:alice``, ``uid:1000``, ``group:sopgw``, by role."""

    members: Mapping[Role, frozenset[str]]

    def roles_of(self, names: Iterable[str]) -> frozenset[Role]:
        """Return the roles of somebody who is known under these names."""
        known = frozenset(names)
        return frozenset(role for role, named in self.members.items() if named & known)

    @property
    def owner_only(self) -> bool:
        """Tell whether nobody but the owner of the process is named."""
        return not any(self.members.values())
