import json

import pytest

from gateway.commissioning import plan
from gateway.commissioning.plan import Level, PlanGone, PlanStore


class Now:
    mono, utc = 5_000_000, 1_795_000_000_000_000

    def mono_us(self):
        return self.mono

    def utc_us(self):
        self.utc += 1
        return self.utc


@pytest.fixture
def now():
    return Now()


@pytest.fixture
def store(tmp_path, now):
    return PlanStore(tmp_path / "plans", mono_us=now.mono_us, utc_us=now.utc_us)


def make(store, **over):
    fields = {
        "command": ["check", "wiring", "m2"], "sop": "SOP-1", "level": Level.MODERATE,
        "lines": ["T2: ±10 kW"], "frames": ["FC16 holding/20"], "site_sha256": "7d1c",
        "state": {"state": "STANDBY", "T2.p_set": 0},
    }  # fmt: skip
    return store.make(**(fields | over))


def why(store, made, now, **over):
    fields = {
        "site_sha256": "7d1c", "state": {"state": "STANDBY", "T2.p_set": 0},
        "mono_us": now.mono, "boot_id": plan.boot_id(),
    }  # fmt: skip
    return plan.stale(made, **(fields | over))


def test_a_plan_is_kept_and_can_be_applied_once(store):
    made = make(store)
    assert store.load(made.id) == made
    assert store.take(made.id) == made
    with pytest.raises(PlanGone, match="applied already"):
        store.take(made.id)
    assert list(store.waiting()) == []


def test_a_cancelled_plan_is_gone(store):
    made = make(store)
    store.cancel(made.id)
    with pytest.raises(PlanGone, match="cancelled already"):
        store.take(made.id)


@pytest.mark.parametrize("name", ["p-XXXX", "../../etc/passwd", "p-../x", ""])
def test_no_such_plan(store, name):
    with pytest.raises(PlanGone):
        store.load(name)


def test_a_plan_lives_two_minutes(store, now):
    made = make(store)
    assert store.left_s(made) == 120
    assert why(store, made, now) == []
    now.mono += 121_000_000
    assert store.left_s(made) == 0
    assert why(store, made, now) == ["it is older than 120 s"]
    assert why(store, made, now, mono_us=5_000_000, boot_id="other") == ["it is older than 120 s"]


def test_a_plan_is_stale_when_the_plant_or_the_file_moved(store, now):
    made = make(store)
    changed = {"state": "RUN", "T2.p_set": 20_000}
    assert why(store, made, now, state=changed) == [
        "T2.p_set changed 0 → 20000", "state changed STANDBY → RUN",
    ]  # fmt: skip
    assert why(store, made, now, site_sha256="0000") == ["the site file was changed"]


def test_more_than_a_fifth_of_the_rating_is_severe():
    assert plan.level_of(p_w=-50_000, s_va=250_000) is Level.MODERATE
    assert plan.level_of(p_w=-50_001, s_va=250_000) is Level.SEVERE


def test_old_plans_are_swept(store):
    for _ in range(plan.PLANS_MAX + 10):
        make(store)
    assert len(list(store.folder.iterdir())) == plan.PLANS_MAX


def test_only_the_owner_reads_a_plan(store):
    made = make(store)
    assert (store.folder / f"{made.id}.json").stat().st_mode & 0o077 == 0


BROKEN = {
    "no JSON": lambda _: b"{",
    "no text": lambda _: b"\xff\xfe",
    "nested without end": lambda _: b"[" * 100_000,
    "no object": lambda _: b"[]",
    "half": lambda d: json.dumps({k: d[k] for k in list(d)[:4]}).encode(),
    "more": lambda d: json.dumps(d | {"more": 1}).encode(),
    "another's": lambda d: json.dumps(d | {"id": "p-ZZZZ"}).encode(),
    "a word that is a number": lambda d: json.dumps(d | {"command": ["stop", 1]}).encode(),
    "a word for a list": lambda d: json.dumps(d | {"command": "stop"}).encode(),
    "a level that is none": lambda d: json.dumps(d | {"level": "mild"}).encode(),
    "a time that is none": lambda d: json.dumps(d | {"expires_mono_us": 1e309}).encode(),
    "a yes for a time": lambda d: json.dumps(d | {"created_utc_us": True}).encode(),
    "a state that is a list": lambda d: json.dumps(d | {"state": []}).encode(),
    "a line that hides what stands before it": lambda d: json.dumps(
        d | {"lines": ["T2: 500 kW\r\x1b[2KT2: 0 kW"]}
    ).encode(),
    "a text that cannot be printed": lambda d: json.dumps(d | {"sop": "\ud83d"}).encode(),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_plan_that_is_not_as_it_was_written_is_refused_and_named(store, kind):
    good, bad = make(store), make(store, command=["stop"])
    path = store.folder / f"{bad.id}.json"
    path.write_bytes(BROKEN[kind](bad.data()))
    with pytest.raises(PlanGone, match=bad.id):
        store.take(bad.id)
    assert path.exists(), "it is not applied"
    assert [p.id for p in store.waiting()] == [good.id]
    (said,) = store.damaged()
    assert bad.id in said
