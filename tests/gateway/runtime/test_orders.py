"""What people may order: setpoints by hand, limits by two, control lent and taken back."""

import asyncio
import json

import pytest
from fakes.people_rig import ENGINEER, SECOND, PeopleRig

from gateway.runtime.orders import LOAN_S_MAX, MANUAL_MS_MAX, OrderRefused

BY_HAND = {"setpoints": {"T2": 10_000}, "for_ms": 5_000}
LIMITS = {"terminal": "T2", "p_w_min": -50_000, "p_w_max": 100_000, "reason": "cable works"}


async def up(**options):
    return await PeopleRig(**options).start()


async def refused(rig, verb, arguments, person=ENGINEER):
    with pytest.raises(OrderRefused) as caught:
        await rig.orders.carry_out(verb, person, arguments)
    return caught.value


# Setpoints by hand


async def test_a_setpoint_by_hand_goes_the_way_of_a_trade_and_ends_by_itself():
    rig = await up()
    await rig.orders.carry_out("setpoint", ENGINEER, BY_HAND)
    await rig.scans(2)
    assert rig.scan.state.held["T2"] == 10_000
    kinds = rig.journal.kinds()
    order = kinds.index("operator")
    assert kinds[order:].index("intent") < kinds[order:].index("commit")
    assert rig.entries("intent", authority="operator")
    await rig.scans(5)
    assert not any(rig.scan.state.held.values())
    assert rig.scan.state.moments[-1].state == "OBSERVE"


async def test_what_is_beyond_a_limit_or_too_long_is_refused_and_nothing_is_written():
    rig = await up()
    size = len(rig.journal.written)
    for arguments, cause in (
        ({"setpoints": {"T2": 231_000}, "for_ms": 1000}, "step-limit"),
        ({"setpoints": {"T1": 1}, "for_ms": 1000}, "inconsistent-parameters"),
        ({"setpoints": {}, "for_ms": 1000}, "inconsistent-parameters"),
        ({"setpoints": {"T2": 1.5}, "for_ms": 1000}, "step-limit"),
        ({"setpoints": {"T2": 1}, "for_ms": MANUAL_MS_MAX + 1}, "time-limit-over"),
        ({"setpoints": {"T2": 1}}, "time-limit-over"),
    ):
        assert (await refused(rig, "setpoint", arguments)).cause == cause
    assert len(rig.journal.written) == size


@pytest.mark.parametrize("mode", ["off", "blocked", "test-blocked"])
async def test_a_mode_that_writes_nothing_takes_no_setpoint(mode):
    rig = await up(mode=mode)
    assert (await refused(rig, "setpoint", BY_HAND)).cause == "blocked-by-mode"


async def test_an_interlock_refuses_a_setpoint():
    rig = await up()
    await rig.orders.carry_out("stop", ENGINEER, {})
    assert (await refused(rig, "setpoint", BY_HAND)).cause == "blocked-by-interlocking"


async def test_a_trade_that_needs_the_converter_comes_first():
    rig = await up(mode="on")
    now_ms = rig.clock.utc_us() // 1000
    interval = {"start": "2027-01-15T08:00Z", "end": "2027-01-15T08:15Z"}
    await rig.recorder.record(
        "trade.accepted", received_index=0, sha256="0", trade_id="trd-1", revision=1, last=True,
        out_terminal="T2", in_terminal="T3",
        positions=[{"interval": interval, "p_w": 4000, "energy_wh": 1000}],
    )  # fmt: skip
    (scheduled,) = rig.scan.state.schedule
    assert scheduled.start_ms <= now_ms < scheduled.end_ms, "the trade runs now"
    found = await refused(rig, "setpoint", BY_HAND)
    assert found.cause == "locked-by-other-client"


async def test_a_stale_plan_moves_nothing():
    rig = await up(
        stale=lambda arguments: ["T2.p_set changed 0 → 5"] if "state" in arguments else []
    )
    found = await refused(rig, "setpoint", BY_HAND | {"state": {}})
    assert "plan is stale: T2.p_set changed" in found.what
    assert (await refused(rig, "borrow", {"state": {}})).what.startswith("plan is stale")


async def test_a_change_of_mode_ends_a_setpoint_by_hand():
    rig = await up()
    await rig.orders.carry_out("setpoint", ENGINEER, {**BY_HAND, "for_ms": 600_000})
    await rig.scans(2)
    assert rig.orders.holder()["holder"] == "uid:1"
    await rig.orders.carry_out("mode", ENGINEER, {"mode": "blocked"})
    await rig.scans(3)
    assert not any(rig.scan.state.held.values())
    assert rig.orders.holder()["holder"] == "trades"


# Limits, by two engineers


async def test_limits_count_when_a_second_engineer_confirms_them():
    rig = await up()
    proposed = await rig.orders.carry_out("limits.propose", ENGINEER, LIMITS)
    assert rig.scan.state.site.sop.terminal("T2").p_w_max == 230_000
    own = await refused(rig, "limits.confirm", {"id": proposed["id"]})
    assert own.cause == "no-access-authority"
    await rig.orders.carry_out("limits.confirm", SECOND, {"id": proposed["id"]})
    terminal = rig.scan.state.site.sop.terminal("T2")
    assert (terminal.p_w_min, terminal.p_w_max) == (-50_000, 100_000)
    (entry,) = rig.entries("operator", verb="limits")
    assert entry["user"] == "uid:2"
    assert entry["arguments"]["proposed_by"] == "uid:1"
    assert (await refused(rig, "limits.confirm", {"id": proposed["id"]}, SECOND)).cause == (
        "time-limit-over"
    )
    found = await refused(rig, "setpoint", {"setpoints": {"T2": 100_001}, "for_ms": 1000})
    assert found.cause == "step-limit"


async def test_a_proposal_grows_old():
    rig = await up()
    proposed = await rig.orders.carry_out("limits.propose", ENGINEER, LIMITS)
    rig.clock.move(601)
    found = await refused(rig, "limits.confirm", {"id": proposed["id"]}, SECOND)
    assert found.cause == "time-limit-over"
    assert rig.orders.limits({})["proposals"] == []


@pytest.mark.parametrize(
    "changed", [{"p_w_max": 230_001}, {"p_w_min": 1}, {"terminal": "T9"}, {"p_w_max": "a lot"}]
)
async def test_limits_stay_within_the_site_file(changed):
    rig = await up()
    await refused(rig, "limits.propose", LIMITS | changed)


# Control lent


class Borrower:
    """The other end of a loan, line by line."""

    def __init__(self, rig):
        self.rig, self.lines, self.answers = rig, asyncio.Queue(), asyncio.Queue()

    async def begin(self, **more):
        lent = await self.rig.orders.carry_out("borrow", ENGINEER, {"words": "test step", **more})
        self.task = asyncio.ensure_future(
            self.rig.orders.lend(ENGINEER, self.lines.get, self.answers.put)
        )
        return lent

    async def say(self, **request):
        await self.lines.put(json.dumps(request).encode())
        return await self.answers.get()

    async def hang_up(self):
        await self.lines.put(b"")
        await self.task


def intent(p_w=10_000, **changes):
    setpoints = [{"terminal": "T2", "mode": "p_q", "p_w": p_w, "q_var": 0}]
    return {
        "sop": "SOP-1", "instr_id": 7, "authority": "operator", "plan_index": -1,
        "setpoints": setpoints, "ramp_permille_per_s": 200, "ttl_s": 10, "staged": "",
        "expires_mono_us": 0,
    } | changes  # fmt: skip


async def test_while_control_is_lent_the_scan_commands_nothing_and_gives_no_sign_of_life():
    rig = await up()
    borrower = Borrower(rig)
    lent = await borrower.begin()
    assert lent["owner_id"] == rig.scan.state.site.owner_id
    assert rig.orders.holder()["what"] == "test step"
    assert not rig.scan.beats()
    before = len(rig.entries("intent"))
    await rig.scans(3)
    assert len(rig.entries("intent")) == before
    answer = await borrower.say(verb="record", kind="intent", fields=intent())
    assert rig.journal.written[answer["index"]]["instr_id"] == 7
    assert (await borrower.say(verb="return"))["ok"]
    await borrower.task
    assert rig.scan.beats()
    assert rig.entries("operator", verb="return")
    assert rig.orders.holder()["holder"] == "trades"


async def test_a_borrower_that_is_killed_leaves_the_station_stopped():
    rig = await up()
    borrower = Borrower(rig)
    await borrower.begin()
    await borrower.say(verb="record", kind="intent", fields=intent())
    assert "ENTER_STANDBY" not in rig.station.log
    await borrower.hang_up()
    (entry,) = rig.entries("operator", verb="control.lost")
    assert entry["arguments"]["outcome"] in ("executed", "accepted")
    assert rig.station.log.count("ENTER_STANDBY") == 1
    assert rig.poller.configured is False, "the watchdog is armed anew before anything moves"
    await rig.scans(8)
    assert not rig.scan.state.open_intents, "the open instruction was settled by reading"


async def test_a_stop_and_the_time_end_a_loan():
    rig = await up()
    for end in ("stop", "time"):
        borrower = Borrower(rig)
        await borrower.begin(for_s=60)
        if end == "stop":
            await rig.orders.carry_out("stop", SECOND, {})
            await borrower.task
            await rig.orders.carry_out("arm", SECOND, {})
        else:
            rig.clock.move(61)
            await borrower.task
        assert rig.orders.holder()["holder"] == "trades"
    assert len(rig.entries("operator", verb="control.lost")) == 2


async def test_one_holder_of_control():
    rig = await up()
    borrower = Borrower(rig)
    await borrower.begin()
    for verb, arguments in (
        ("borrow", {}), ("setpoint", BY_HAND), ("mode", {"mode": "on"}),
    ):  # fmt: skip
        assert (await refused(rig, verb, arguments, SECOND)).cause == "locked-by-other-client"
    await borrower.hang_up()


async def test_nobody_borrows_what_is_still_being_taken_back():
    rig = await up()
    borrower = Borrower(rig)
    await borrower.begin()
    plain, asked, held = rig.station.command, asyncio.Event(), asyncio.Event()

    async def slow(*arguments):
        asked.set()
        await held.wait()
        return await plain(*arguments)

    rig.station.command = slow
    ending = asyncio.create_task(borrower.hang_up())
    await asked.wait()
    assert (await refused(rig, "borrow", {}, SECOND)).cause == "locked-by-other-client"
    held.set()
    await ending
    second = Borrower(rig)
    await second.begin()
    assert not rig.scan.beats()
    await second.hang_up()


async def test_control_is_lent_in_mode_test_alone_and_not_over_a_setpoint():
    for mode in ("on", "blocked", "off"):
        rig = await up(mode=mode)
        assert (await refused(rig, "borrow", {})).cause == "blocked-by-mode"
    rig = await up()
    assert (await refused(rig, "borrow", {"for_s": LOAN_S_MAX + 1})).cause == (
        "inconsistent-parameters"
    )
    await rig.orders.carry_out("setpoint", ENGINEER, BY_HAND)
    assert (await refused(rig, "borrow", {})).cause == "command-already-in-execution"


@pytest.mark.parametrize(
    "request_",
    [
        {"verb": "record", "kind": "delivery", "fields": {}},
        {"verb": "record", "kind": "intent", "fields": intent(p_w=231_000)},
        {"verb": "record", "kind": "intent", "fields": intent(authority="plan")},
        {"verb": "record", "kind": "intent", "fields": intent(plan_index=3)},
        {"verb": "record", "kind": "intent", "fields": intent(sop="SOP-9")},
        {"verb": "record", "kind": "intent", "fields": intent(ttl_s=True)},
        {"verb": "record", "kind": "intent", "fields": intent(more=1)},
        {"verb": "record", "kind": "outcome", "fields": {
            "intent_index": 0, "instr_id": 7, "outcome": "executed", "active": {}, "reasons": []}},
        {"verb": "record", "kind": "operator", "fields": {
            "user": "root", "verb": "arm", "arguments": [], "reason": ""}},
        {"verb": "mode", "mode": "on"},
        {"verb": "record"},
        [1],
    ],
)  # fmt: skip
async def test_a_borrower_writes_no_entry_that_is_not_his(request_):
    rig = await up()
    borrower = Borrower(rig)
    await borrower.begin()
    size = len(rig.journal.written)
    await borrower.lines.put(json.dumps(request_).encode())
    assert not (await borrower.answers.get())["ok"]
    assert len(rig.journal.written) == size
    await borrower.hang_up()


async def test_the_name_in_a_borrowers_entries_is_the_kernels():
    rig = await up()
    borrower = Borrower(rig)
    await borrower.begin()
    fields = {"user": "root", "verb": "test", "arguments": ["step"], "reason": ""}
    answer = await borrower.say(verb="record", kind="operator", fields=fields)
    assert rig.journal.written[answer["index"]]["user"] == "uid:1"
    await borrower.hang_up()
