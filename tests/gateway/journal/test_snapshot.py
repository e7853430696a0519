"""A snapshot is the fold and nothing else, counts only when vouched for, and bounds a start."""

import dataclasses
import logging

import pytest
from dst.world import Setting, run
from fakes.core import make_policy, make_site, make_sop
from fakes.memory_journal import ManualClock

from gateway.core.state import Site, State
from gateway.journal import snapshot
from gateway.journal.ledger_journal import LedgerJournal, read_entries
from gateway.journal.recovery import recover
from gateway.journal.snapshot import (
    REMEMBERED_MAX,
    Memory,
    Shelf,
    SnapshotKeeper,
    freeze,
    lines,
    read,
)
from gateway.runtime.recorder import Recorder
from ledger.audit.shapes import wrong_fields
from ledger.log.verify import verify

SITE = Site(
    site="sim", sop=make_sop(), policy=make_policy(gate_ms=30_000), rearm="auto", owner_id=4711,
    ramp_permille_per_s=200,
)  # fmt: skip


@pytest.fixture(scope="module")
def histories():
    """Some minutes of simulated life each, with faults and kills: every kind of entry."""
    logging.disable(logging.CRITICAL)
    found = [run(Setting(seed=seed, minutes=10)).entries for seed in (1, 7)]
    logging.disable(logging.NOTSET)
    return found


def folded(entries, state=None):
    state = state or State(SITE, bounds=SITE.sop)
    for index, entry in enumerate(entries[state.size :], state.size):
        state.fold(index, entry)
    return state


def written(state, remembered=()):
    return b"".join(lines(freeze(state, remembered), SITE))


def test_from_any_quiet_moment_the_rest_of_the_ledger_leads_to_the_same_state(histories):
    for entries in histories:
        whole, state, seen = folded(entries), State(SITE, bounds=SITE.sop), 0
        for index, entry in enumerate(entries):
            state.fold(index, entry)
            if index % 40 == 0:
                loaded = read(written(state), SITE).state
                assert loaded == state
                if index % 400 == 0:
                    assert folded(entries, loaded) == whole
                    seen += 1
        assert seen > 1


def test_dictionaries_come_back_in_their_order(histories):
    state = folded(histories[0])
    loaded = read(written(state), SITE).state
    for field in dataclasses.fields(State):
        value = getattr(state, field.name)
        if isinstance(value, dict):
            assert list(getattr(loaded, field.name)) == list(value)
    assert len(state.over) > 1


def test_what_is_folded_later_does_not_reach_a_state_that_was_set_aside(histories):
    entries = histories[0]
    half = folded(entries[: len(entries) // 2])
    frozen = freeze(half, [])
    before = b"".join(lines(frozen, SITE))
    folded(entries, half)
    assert b"".join(lines(frozen, SITE)) == before


def test_long_dictionaries_are_written_in_several_lines(histories, monkeypatch):
    state = folded(histories[0])
    whole = written(state, [(1, {"kind": "delivery"})] * 5)
    monkeypatch.setattr(snapshot, "PAIRS_MAX", 2)
    split = written(state, [(1, {"kind": "delivery"})] * 5)
    assert split.count(b"\n") > whole.count(b"\n")
    assert read(split, SITE).state == read(whole, SITE).state == state
    assert read(split, SITE).remembered == read(whole, SITE).remembered


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b'"size":', b'"sizes":', 1),
        lambda data: data.replace(snapshot.core_digest().encode(), b"0" * 64),
        lambda data: data.replace(b'["size",', b'["size",1'),
        lambda data: data + b'["stranger",1]\n',
        lambda data: data.replace(b'"format":1', b'"format":2'),
    ],
    ids=["empty", "cut", "other shape", "other core", "other size", "other field", "other format"],
)
def test_anything_else_is_refused(histories, spoil):
    with pytest.raises(ValueError, match=r"cannot be read|made by|size"):
        read(spoil(written(folded(histories[0]))), SITE)


def test_one_of_other_limits_is_refused(histories):
    with pytest.raises(ValueError, match="limits"):
        read(written(folded(histories[0])), make_site())


class Ledger:
    """A real ledger with a keeper that makes a snapshot after every few entries."""

    def __init__(self, folder, *, every=20):
        self.folder, self.clock = folder, ManualClock()
        self.shelf = Shelf(folder / "ledger", SITE)
        self.every = every

    def open(self):
        self.journal = LedgerJournal.open(
            directory=self.folder / "ledger", origin="bench.example/SOP-1",
            key_file=self.folder / "ledger.key", clock=self.clock,
        )  # fmt: skip
        self.state, self.remembered = recover(self.journal, SITE, self.shelf)
        self.recorder = Recorder(self.journal, self.state)
        self.memory = Memory(self.remembered)
        self.keeper = SnapshotKeeper(
            shelf=self.shelf, state=self.state, record=self.recorder.record, clock=self.clock,
            memory=self.memory, last_size=self.shelf.used_size, entries_between=self.every,
        )  # fmt: skip
        self.recorder.listeners.append(self.memory.take)

    async def write(self, entries):
        common = {"kind", "utc_us", "mono_us", "boot", "tq"}
        for entry in entries:
            await self.recorder.record(
                entry["kind"], **{k: v for k, v in entry.items() if k not in common}
            )
            if self.keeper.due:
                await self.keeper.make()

    def folded_at_start(self, caplog):
        with caplog.at_level(logging.INFO):
            self.open()
        (text,) = [r.getMessage() for r in caplog.records if "recovered" in r.getMessage()]
        caplog.clear()
        return int(text.split(", ")[1].split()[0])


def readings(count, first=0):
    return [
        {"kind": "reading", "meters": [
            {"terminal": "T1", "meter": "m1", "utc_us": (first + k) * 5_000_000, "quality": "good",
             "import_wh": k, "export_wh": 0, "p_w": 0}
        ]}
        for k in range(count)
    ]  # fmt: skip


async def test_a_start_folds_what_came_after_the_last_snapshot_however_long_the_ledger(
    tmp_path, caplog
):
    for length in (100, 700):
        folder = tmp_path / str(length)
        folder.mkdir()
        ledger = Ledger(folder)
        ledger.open()
        await ledger.write(readings(length))
        before = ledger.state
        await ledger.journal.close()
        caplog.clear()
        assert 0 < ledger.folded_at_start(caplog) <= ledger.every + 1
        before.clean = ledger.state.clean
        assert ledger.state == before
        assert len(list((folder / "ledger" / "state").iterdir())) <= snapshot.KEPT
        await ledger.journal.close()


async def test_a_snapshot_the_ledger_does_not_name_is_not_believed(tmp_path, caplog):
    ledger = Ledger(tmp_path)
    ledger.open()
    await ledger.write(readings(45))
    kept, genuine = sorted((tmp_path / "ledger" / "state").iterdir(), reverse=True)[:2], {}
    size = ledger.state.size
    await ledger.journal.close()
    caplog.clear()
    forged = State(SITE, bounds=SITE.sop)
    forged.size, forged.armed = read(kept[0].read_bytes(), SITE).size, False
    genuine[kept[0]] = kept[0].read_bytes()
    kept[0].write_bytes(written(forged))  # a well-formed lie
    count = ledger.folded_at_start(caplog)
    assert ledger.state.armed
    assert ledger.every < count < size, "the one before it was used"
    await ledger.journal.close()
    for path in (tmp_path / "ledger" / "state").iterdir():
        path.unlink()
    caplog.clear()
    assert ledger.folded_at_start(caplog) == size, "without any, everything is folded"
    await ledger.journal.close()


async def test_none_is_made_while_anything_is_under_way(tmp_path, histories):
    ledger = Ledger(tmp_path, every=1)
    ledger.open()
    intent = next(e for e in histories[0] if e["kind"] == "intent")
    await ledger.recorder.record("intent", **{k: v for k, v in intent.items() if k != "kind"})
    assert not ledger.keeper.due
    await ledger.recorder.record(
        "abort", intent_index=0, instr_id=intent["instr_id"], reasons=[]
    )  # fmt: skip
    assert ledger.keeper.due
    await ledger.journal.close()


async def test_verdicts_of_before_can_be_said_again(tmp_path, histories):
    ledger = Ledger(tmp_path, every=5)
    ledger.open()
    delivery = {"kind": "delivery", "sop": "SOP-1", "trades": [], "interval": {
        "start": "2026-01-02T02:00Z", "end": "2026-01-02T02:15Z"}}  # fmt: skip
    await ledger.write([delivery, *readings(12)])
    await ledger.journal.close()
    ledger.open()
    assert [(i, e["kind"]) for i, e in ledger.remembered] == [(0, "delivery")]
    await ledger.journal.close()


async def test_sums_of_what_was_settled_do_not_fall_at_a_restart(tmp_path, monkeypatch):
    monkeypatch.setitem(REMEMBERED_MAX, "delivery", 2)
    ledger = Ledger(tmp_path, every=5)
    ledger.open()
    delivery = {"kind": "delivery", "sop": "SOP-1", "interval": {
        "start": "2026-01-02T02:00Z", "end": "2026-01-02T02:15Z"}, "trades": [
            {"trade_id": "a", "status": "delivered", "contracted_wh": 100, "delivered_wh": 99}
        ]}  # fmt: skip
    await ledger.write([delivery] * 7)
    assert ledger.state.settled == {"delivered": (7, 700, 693)}
    await ledger.journal.close()
    ledger.open()
    assert ledger.shelf.used_size > 2
    assert len(ledger.remembered) == 2
    assert ledger.state.settled == {"delivered": (7, 700, 693)}
    await ledger.journal.close()


async def test_a_disk_that_refuses_the_file_costs_nothing_but_the_file(tmp_path, caplog):
    ledger = Ledger(tmp_path, every=5)
    ledger.open()
    (tmp_path / "ledger" / "state").write_text("in the way")
    await ledger.write(readings(12))
    assert "no snapshot" in caplog.text
    assert ledger.state.size == 12
    await ledger.journal.close()


async def test_the_ledger_beside_its_snapshots_verifies_and_the_auditor_knows_the_entry(tmp_path):
    ledger = Ledger(tmp_path, every=10)
    ledger.open()
    await ledger.write(readings(25))
    key = ledger.journal.vkey
    await ledger.journal.close()
    assert verify(tmp_path / "ledger", [key]).ok
    named = [e for _, e in read_entries(tmp_path / "ledger") if e["kind"] == "snapshot"]
    assert len(named) == 2
    assert [wrong_fields(e) for e in named] == [None, None]


async def test_entries_whose_bodies_were_removed_after_export_are_passed_over(tmp_path):
    entries = [(i, e | {"utc_us": 0, "mono_us": i, "boot": 1}) for i, e in enumerate(readings(9))]

    class Pruned:
        boot_number = 0

        def entries(self, start=0):
            return iter([(i, e) for i, e in entries if i >= start and i not in (2, 3, 4)])

    state, _ = recover(Pruned(), SITE)
    assert state.size == 9
    assert [c.import_wh for c in state.readings["T1"]] == [0, 1, 5, 6, 7, 8]


def test_what_is_remembered_is_bounded_by_kind_and_comes_back_as_it_was():
    memory = Memory()
    entry = {"kind": "delivery", "trades": [{"trade_id": "é", "delivered_wh": 7}], "tq": None}
    for index in range(REMEMBERED_MAX["delivery"] + 3):
        memory.take(index, entry)
    memory.take(9_999, {"kind": "reading"})
    kept = memory.entries()
    assert (kept[0], len(kept)) == ((3, entry), REMEMBERED_MAX["delivery"])
    assert kept[0][1] is not entry
    assert b"".join(lines(freeze(State(SITE), memory.written()), SITE)) == b"".join(
        lines(freeze(State(SITE), kept), SITE)
    )
