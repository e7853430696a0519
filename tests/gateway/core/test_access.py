"""Who may what: a table, and nothing beside it."""

from gateway.core.access import ALLOWED, Access, Role, allowed

COMMANDS = {"arm", "mode", "setpoint", "borrow", "limits.propose", "limits.confirm"}


def test_what_is_not_in_the_table_is_denied_to_everybody():
    for verb in ("", "explode", "STOP", "limits.", "record", "return"):
        assert not allowed(Role, verb)


SEES = {Role.VIEWER, Role.OPERATOR, Role.ENGINEER}
OPERATES = {Role.OPERATOR, Role.ENGINEER}
MATRIX = {
    "status": SEES, "alarms": SEES, "limits": SEES, "entries": SEES, "stop": SEES,
    "whoami": set(Role), "access": {Role.ENGINEER, Role.SECADM, Role.SECAUD},
    "arm": OPERATES, "mode": OPERATES, "ack": OPERATES, "shelve": OPERATES, "unshelve": OPERATES,
    "setpoint": {Role.ENGINEER}, "borrow": {Role.ENGINEER},
    "limits.propose": {Role.ENGINEER}, "limits.confirm": {Role.ENGINEER},
}  # fmt: skip


def test_the_table_is_the_one_that_was_agreed():
    """Written down a second time: a right is not given by the way."""
    assert MATRIX == ALLOWED
    for verb, may in MATRIX.items():
        for role in Role:
            assert allowed([role], verb) == (role in may)
        assert not allowed([], verb)


def test_looking_orders_nothing_but_a_stop():
    granted = {verb for verb in ALLOWED if allowed([Role.VIEWER], verb)}
    assert not granted & COMMANDS
    assert "stop" in granted


def test_an_operator_moves_no_power_by_hand():
    granted = {verb for verb in ALLOWED if allowed([Role.OPERATOR], verb)}
    assert {"arm", "mode", "ack", "shelve"} <= granted
    assert not granted & {"setpoint", "borrow", "limits.propose", "limits.confirm"}


def test_security_roles_command_nothing():
    for role in (Role.SECADM, Role.SECAUD):
        granted = {verb for verb in ALLOWED if allowed([role], verb)}
        assert granted == {"whoami", "access"}


def test_roles_come_by_name():
    access = Access(members={Role.OPERATOR: frozenset({"group:ops"}), Role.VIEWER: frozenset()})
    assert access.roles_of(["uid:5", "group:ops"]) == {Role.OPERATOR}
    assert access.roles_of(["uid:5"]) == frozenset()
    assert not access.owner_only
    assert Access(members={Role.VIEWER: frozenset()}).owner_only
