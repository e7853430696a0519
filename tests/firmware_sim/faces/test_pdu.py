"""Whatever bytes come, every unit answers with an answer."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firmware_sim.faces.meter_maps import MODELS, MeterMap
from firmware_sim.faces.pdu import answer
from firmware_sim.faces.station_map import StationMap
from firmware_sim.faces.sunspec_map import SunSpecMap
from firmware_sim.faces.sunspec_meter import SunSpecMeter
from firmware_sim.plant.meter import Meter

ADDRESSES = st.sampled_from(
    [
        0, 4, 5, 8, 11, 12, 20, 32, 67, 68, 999, 1000, 1020, 1039, 1100, 1259, 0x0BB7, 0x0C83,
        0x5000, 19000, 40000, 40070, 40318, 40320, 40416, 51768, 65535,
    ]
)  # fmt: skip
WORD = st.integers(0, 65535)


@st.composite
def requests(draw):
    function = draw(st.sampled_from([1, 2, 3, 4, 5, 6, 15, 16, 17, 22, 23, 43, 0, 99, 127]))
    address, count = draw(ADDRESSES), draw(st.integers(0, 130))
    head = bytes((function,)) + address.to_bytes(2, "big") + count.to_bytes(2, "big")
    if function in (16, 23):
        values = draw(st.lists(WORD, min_size=0, max_size=20))
        head = bytes((function,)) + address.to_bytes(2, "big")
        head += len(values).to_bytes(2, "big")
        if function == 23:
            head += address.to_bytes(2, "big") + len(values).to_bytes(2, "big")
        return head + bytes((2 * len(values),)) + b"".join(v.to_bytes(2, "big") for v in values)
    return head + draw(st.binary(max_size=3))


@pytest.fixture
def units(rig):
    firmware = lambda: rig.firmware  # noqa: E731
    now = lambda: rig.sop.t_us  # noqa: E731
    meter = Meter(rig.sop.converters[1], serial_id=1)
    made = {
        1: SunSpecMap(rig.sop, firmware, 1, serial="S", now_us=now),
        2: SunSpecMeter(203, meter, ahead_s=lambda: 0.0),
        3: SunSpecMeter(213, meter, ahead_s=lambda: 0.0),
        100: StationMap(rig.sop, firmware, now_us=now, utc_us=now),
    }
    for number, model in enumerate(MODELS.values(), 10):
        made[number] = MeterMap(model, meter, ahead_s=lambda: 0.0)
    return made


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(pdu=st.one_of(requests(), st.binary(min_size=1, max_size=253)))
def test_every_request_gets_one_well_formed_answer(units, pdu):
    for unit_id in (*units, 55):
        reply = answer(units, unit_id, pdu)
        assert reply[0] in (pdu[0], pdu[0] | 0x80)
        assert len(reply) <= 253
        if reply[0] & 0x80 and not pdu[0] & 0x80:
            assert len(reply) == 2
            assert reply[1] in (1, 2, 3, 4, 6, 11)
