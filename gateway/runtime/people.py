"""Turns the other end of a Unix socket into a person with roles, as the kernel knows it."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct

from gateway.core.access import Access, Person, Role

_PEER = struct.Struct("3i")  # pid, uid, gid


def person_at(peer: socket.socket, access: Access) -> Person:
    """Name the owner of the process at the other end and give him his roles."""
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _, uid, gid = _PEER.unpack(raw)
    return person_of(uid, gid, access)


def person_of(uid: int, gid: int, access: Access) -> Person:
    """Return a person; the owner of this process is an engineer where no roles are given."""
    if access.owner_only:
        roles = frozenset({Role.ENGINEER}) if uid == os.geteuid() else frozenset()
    else:
        roles = access.roles_of(names_of(uid, gid))
    return Person(user=f"uid:{uid}", roles=roles)


def names_of(uid: int, gid: int) -> frozenset[str]:
    """Return every name a role map may use for somebody: number, login, groups."""
    names = {f"uid:{uid}", f"gid:{gid}"}
    groups = {gid}
    try:
        login = pwd.getpwuid(uid).pw_name
        names.add(f"user:{login}")
        groups |= set(os.getgrouplist(login, gid))
    except KeyError:
        pass  # a number without a name: the number alone counts
    for group in groups:
        names.add(f"gid:{group}")
        try:
            names.add(f"group:{grp.getgrgid(group).gr_name}")
        except KeyError:
            continue
    return frozenset(names)
