"""One look for the alarms: what the ledger, the links and the disk say now."""

from dataclasses import replace

import pytest
from fakes.people_rig import PeopleRig

from gateway.ports import LedgerStatus
from gateway.runtime.look import Look


def ledger(**changes):
    return replace(LedgerStatus(size=1, checkpoint="origin\n1\nroot", anchored=False), **changes)


def look_of(rig, place, *, status=None, **options):
    site_file = place / "site.yaml"
    site_file.write_text("version: 1\n")
    fields = {"broker_online": lambda: True, "meter_poll_ms": 5000, "folder": place}
    return Look(
        scan=rig.scan, poller=rig.poller, clock=rig.clock, ledger=lambda: status or ledger(),
        site_file=site_file, **(fields | options),
    )  # fmt: skip


async def test_nothing_is_wrong_with_what_works(tmp_path):
    seen = look_of(await PeopleRig().start(), tmp_path)(())
    assert (seen.broker_online, seen.node_online, seen.ledger_wrong) == (True, True, "")
    assert not seen.config_changed


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"contradiction": "w1 knows more"}, "w1 knows more"),
        ({"damage": "entry 7"}, "entry 7"),
        ({"contradiction": "w1 knows more", "damage": "entry 7"}, "w1 knows more; entry 7"),
    ],
)
async def test_what_speaks_against_the_ledger_is_an_alarm_until_it_is_gone(tmp_path, said, wrong):
    rig = await PeopleRig().start()
    bad, good = look_of(rig, tmp_path, status=ledger(**said)), look_of(rig, tmp_path)
    rig.seen = bad(())
    assert rig.seen.ledger_wrong == wrong
    await rig.alarms.look()
    (row,) = rig.alarms.rows()
    assert (row["code"], row["detail"], row["priority_level"]) == ("A-140", wrong, 2)
    rig.seen = good(())
    await rig.alarms.look()
    assert [e["active"] for e in rig.entries("alarm", code="A-140")] == [True, False]


async def test_a_node_that_is_away_for_a_minute_is_an_alarm(tmp_path):
    rig = await PeopleRig().start()
    online = []
    look = look_of(rig, tmp_path, node_online=lambda: bool(online))
    for after_s in (0, 59, 2):
        assert not rig.entries("alarm", code="A-123")
        rig.clock.move(after_s)
        rig.seen = look(())
        await rig.alarms.look()
    assert [e["detail"] for e in rig.entries("alarm", code="A-123")] == ["no answer"]
    online.append(True)
    assert look(()).node_online


async def test_a_changed_site_file_is_seen_and_an_equal_one_is_not(tmp_path):
    look = look_of(await PeopleRig().start(), tmp_path)
    site_file = tmp_path / "site.yaml"
    site_file.write_text("version: 1\n# edited\n")
    assert look(()).config_changed
    site_file.write_text("version: 1\n")
    assert not look(()).config_changed
    site_file.unlink()
    assert look(()).config_changed


@pytest.mark.parametrize(
    ("checkpoint", "size", "waits"),
    [("origin\n1\nroot", 1, False), ("origin\n1\nroot", 2, True), ("", 1, True)],
)
async def test_entries_that_wait_for_a_checkpoint_are_counted_from_the_last(
    tmp_path, checkpoint, size, waits
):
    rig = await PeopleRig().start()
    look = look_of(rig, tmp_path, status=ledger(checkpoint=checkpoint, size=size))
    look(())
    rig.clock.move(100)
    assert look(()).checkpoint_age_us == (100_000_000 if waits else 0)


async def test_a_folder_that_is_gone_says_nothing_of_the_disk(tmp_path):
    look = look_of(await PeopleRig().start(), tmp_path, folder=tmp_path / "gone")
    assert look(()).disk_free_ppm is None
    look = look_of(await PeopleRig().start(), tmp_path)
    assert 0 < look(()).disk_free_ppm <= 1_000_000
