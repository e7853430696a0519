"""Who is at the other end: numbers, logins and groups of this machine."""

import grp
import os
import pwd
import socket

from gateway.core.access import Access, Role
from gateway.runtime.people import names_of, person_at, person_of

ME = pwd.getpwuid(os.geteuid())


def test_somebody_is_known_by_number_login_and_groups():
    names = names_of(ME.pw_uid, ME.pw_gid)
    assert {f"uid:{ME.pw_uid}", f"user:{ME.pw_name}", f"gid:{ME.pw_gid}"} <= names
    assert f"group:{grp.getgrgid(ME.pw_gid).gr_name}" in names


def test_a_number_without_a_login_is_known_by_its_number():
    assert names_of(4_000_000, 4_000_001) == {"uid:4000000", "gid:4000000"} - {"gid:4000000"} | {
        "gid:4000001"
    }


def test_without_a_role_map_the_owner_is_an_engineer_and_nobody_else_is_anything():
    alone = Access(members={})
    assert person_of(ME.pw_uid, ME.pw_gid, alone).roles == {Role.ENGINEER}
    assert person_of(ME.pw_uid + 1, ME.pw_gid, alone).roles == frozenset()


def test_with_a_role_map_the_owner_has_what_it_gives_him():
    given = Access(members={Role.OPERATOR: frozenset({"uid:4000000"})})
    assert person_of(ME.pw_uid, ME.pw_gid, given).roles == frozenset()
    assert person_of(4_000_000, 0, given).roles == {Role.OPERATOR}


def test_the_kernel_says_who_it_is():
    near, far = socket.socketpair()
    with near, far:
        assert person_at(near, Access(members={})).user == f"uid:{os.geteuid()}"
