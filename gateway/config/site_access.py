"""The ``access:`` part of a site file."""

from __future__ import annotations

from gateway.config.site_shape import AccessShape
from gateway.core.access import Access, Role


def access_of(found: AccessShape) -> Access:
    """Build the role map."""
    return Access(
        members={
            Role.VIEWER: frozenset(found.viewers),
            Role.OPERATOR: frozenset(found.operators),
            Role.ENGINEER: frozenset(found.engineers),
            Role.SECADM: frozenset(found.secadm),
            Role.SECAUD: frozenset(found.secaud),
        }
    )
