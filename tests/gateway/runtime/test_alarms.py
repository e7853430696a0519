"""The watch: what comes and goes becomes an entry and is told; a start goes on where it was."""

from dataclasses import replace

from fakes.people_rig import PeopleRig

from gateway.core.alarm_conditions import Seen
from gateway.runtime.alarms import AlarmWatch


async def test_an_alarm_comes_after_its_delay_and_goes_after_its_own():
    rig = await PeopleRig().start()
    rig.seen = replace(rig.seen, broker_online=False)
    await rig.alarms.look()
    assert not rig.entries("alarm")
    rig.clock.move(61)
    await rig.alarms.look()
    assert [(e["code"], e["active"]) for e in rig.entries("alarm")] == [("A-122", True)]
    assert ("alarm/A-122", {"active": True, "detail": "no connection"}) in rig.market.told
    rig.seen = replace(rig.seen, broker_online=True)
    await rig.alarms.look()
    rig.clock.move(11)
    await rig.alarms.look()
    assert [e["active"] for e in rig.entries("alarm")] == [True, False]


async def test_it_is_said_once_while_it_lasts():
    rig = await PeopleRig().start()
    rig.seen = replace(rig.seen, config_changed=True)
    for _ in range(20):
        rig.clock.move(10)
        await rig.alarms.look()
    assert len(rig.entries("alarm")) == 1


async def test_refused_trades_are_named():
    rig = await PeopleRig().start()
    told = []
    rig.alarms._seen = lambda refused: told.append(refused) or Seen(utc_us=rig.clock.utc_us())
    await rig.recorder.record(
        "trade.refused", received_index=0, sha256="0", trade_id="trd-9", revision=1, last=True,
        reasons=[{"code": "late", "detail": ""}],
    )  # fmt: skip
    await rig.alarms.look()
    assert told[-1][0][1] == "trd-9: late"


async def test_after_a_start_what_stood_still_stands_and_is_not_said_again():
    rig = await PeopleRig().start()
    rig.seen = replace(rig.seen, config_changed=True)
    rig.clock.move(0)
    await rig.alarms.look()
    rig.clock.move(11)
    await rig.alarms.look()
    again = AlarmWatch(
        rules=rig.alarms.rules, recorder=rig.recorder, market=rig.market, clock=rig.clock,
        seen=lambda _: rig.seen,
    )  # fmt: skip
    for index, entry in enumerate(rig.journal.written):
        again.take(index, entry)
    rig.clock.move(60)
    await again.look()
    assert len(rig.entries("alarm")) == 1
    (row,) = again.rows()
    assert (row["code"], row["priority_level"], row["acknowledged"]) == ("A-200", 4, False)
    assert row["response"].startswith("sopgw config check")


async def test_an_alarm_nobody_knows_any_more_is_cleared():
    rig = await PeopleRig().start()
    await rig.recorder.record("alarm", code="link_lost", active=True, detail="of an older list")
    await rig.alarms.look()
    assert rig.entries("alarm")[-1] | {} == rig.entries("alarm", code="link_lost")[-1]
    assert rig.entries("alarm", code="link_lost")[-1]["active"] is False
