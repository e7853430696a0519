"""What a sweep saved is what the envelope keeps to."""

import dataclasses
import importlib.util
from pathlib import Path

import pytest

from gateway.cli.field import equipment_of
from gateway.cli.operations import capability_text
from gateway.config.core_site import core_site
from gateway.config.site_file import check_site
from gateway.core.envelope import curtail
from gateway.core.netting import Leg
from gateway.hmi.observer import Observer
from gateway.model.capability import Capability
from gateway.model.interval import Interval
from gateway.ports import LedgerStatus
from gateway.runtime.clock import SystemClock

FAKES = Path(__file__).resolve().parents[2] / "fakes"
SPEC = importlib.util.spec_from_file_location("planted_site", FAKES / "planted_site.py")
planted_site = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(planted_site)

MEASURED = Capability(
    terminal="T2",
    s_va=250_000,
    corners=((100_000, 0), (0, 150_000), (-225_000, 0), (0, -150_000)),
)


@pytest.fixture
def site(tmp_path):
    """Load a site whose T2 names a capability file with these words in it."""

    def load(text, name="capability-T2.yaml", key="capability: capability-T2.yaml, "):
        if text is not None:
            (tmp_path / name).write_text(text)
        whole = planted_site.site_text({"station": 5020, "meters": [5021, 5022, 5023, 5024]})
        path = tmp_path / "site.yaml"
        path.write_text(whole.replace("T2: {", "T2: {" + key))
        return check_site(path)

    return load


def planned_wh(found, energy_wh):
    interval = Interval(start_ms=0, end_ms=900_000)
    sop = core_site(found, found.sops[0]).sop
    leg = Leg(
        trade_id="a", revision_number=1, out_terminal="T3", in_terminal="T2", energy_wh=energy_wh
    )
    available = {t.id: t.s_va for t in sop.terminals}
    return curtail([leg], sop=sop, interval=interval, available_va=available)[0].planned_wh


def test_the_envelope_is_the_smaller_of_guard_and_measured(site):
    document, found = site(capability_text(MEASURED))
    assert found is not None, document.problems
    limits = [(t.p_w_min, t.p_w_max) for t in core_site(found, found.sops[0]).sop.terminals]
    assert limits[1] == (-225_000, 100_000)
    assert limits[0] == limits[2] == (-230_000, 230_000)
    assert planned_wh(found, 20_000) == 20_000
    narrow = planned_wh(found, 40_000)
    _document, wide = site(capability_text(MEASURED), key="")
    assert narrow < 25_000 < planned_wh(wide, 40_000) == 40_000


def test_a_new_measurement_may_visit_what_the_guard_allows(site):
    _document, found = site(capability_text(MEASURED))
    terminal = equipment_of(found, None).sop.terminal("T2")
    assert (terminal.p_w_min, terminal.p_w_max) == (-230_000, 230_000)


def test_the_digest_of_the_site_knows_what_was_measured(site):
    _d, one = site(capability_text(MEASURED))
    changed = dataclasses.replace(MEASURED, corners=((99_000, 0), *MEASURED.corners[1:]))
    _d, other = site(capability_text(changed))
    assert one.sha256 != other.sha256


def test_a_short_sweep_is_a_warning(site):
    document, found = site(capability_text(MEASURED))
    (warning,) = [p for p in document.problems if p.code == "C081"]
    assert "100" in warning.message
    assert warning in found.warnings
    full = dataclasses.replace(
        MEASURED, corners=((225_000, 0), (0, 225_000), (-225_000, 0), (0, -225_000))
    )
    document, found = site(capability_text(full))
    assert document.problems == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (capability_text(MEASURED).replace("terminal: T2", "terminal: T3"), "C080"),
        (capability_text(MEASURED).replace("250000 VA", "100000 VA"), "C080"),
        (capability_text(MEASURED).replace("100000 W", "100000"), "C012"),
        (capability_text(MEASURED).rsplit("\n", 2)[0] + "\n", "C013"),
        ("corners: []\n", "C011"),
        ("- 1\n", "C013"),
        (None, "C001"),
    ],
)
def test_a_file_that_is_none_is_refused(site, text, code):
    document, found = site(text)
    assert found is None
    assert code in {p.code for p in document.problems}


def test_the_page_draws_the_polygon_that_was_measured(site):
    _document, found = site(capability_text(MEASURED))
    config = found.sops[0]
    observer = Observer(
        site=found.id, name=found.name, sop=config.sop, clock=SystemClock(), simulated=True,
        polygons={t: c.corners for t, c in config.measured.items()},
    )  # fmt: skip
    ledger = LedgerStatus(size=0, checkpoint="", anchored=False)
    seen = {t.id: t.polygon for t in observer.view(station=None, ledger=ledger).terminals}
    assert seen == {"T1": (), "T2": MEASURED.corners, "T3": (), "T4": ()}
