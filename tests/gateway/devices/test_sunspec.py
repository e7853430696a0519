import json
import struct

import pytest

from gateway.devices.connect import client_of
from gateway.devices.identity import identify, parse_objects
from gateway.devices.modbus.client import ModbusUnit
from gateway.devices.profile import ModbusSettings, PointType
from gateway.devices.sunspec import Chain, Model, definitions_folder, discover, profile_of
from gateway.model.errors import BadAnswer, ConfigError


class Memory:
    """Registers by address; the rest is refused, as is every other function."""

    def __init__(self, words):
        self.words = words

    def __call__(self, device, wire, request):
        address, count = struct.unpack_from(">HH", request, 8) if request[7] == 3 else (0, 0)
        found = [self.words.get(address + k) for k in range(count)]
        if request[7] != 3 or None in found:
            wire.send(
                request[:4] + b"\0\3\1" + bytes((request[7] | 0x80, 2 if request[7] == 3 else 1))
            )
            return
        body = struct.pack(f">BB{count}H", 3, 2 * count, *found)
        wire.send(request[:4] + (len(body) + 1).to_bytes(2) + request[6:7] + body)


def chain_words(base, *models, end=True):
    words = {base: 0x5375, base + 1: 0x6E53}
    at = base + 2
    for model, length in models:
        words |= {at + k: 7 for k in range(2 + length)}
        words |= {at: model, at + 1: length}
        at += 2 + length
    if end:
        words |= {at: 0xFFFF, at + 1: 0}
    return words


def unit_at(device):
    url = f"modbus+tcp://127.0.0.1:{device.port}"
    return ModbusUnit(client_of(url, ModbusSettings(), timeout_s=1), name="d", timeout_s=1)


@pytest.mark.parametrize("base", [40000, 0, 50000])
async def test_the_chain_is_found_at_each_of_the_three_places(peer, base):
    async with peer(Memory(chain_words(base, (1, 66), (701, 153), (704, 65)))) as device:
        unit = unit_at(device)
        chain = await discover(unit, 1)
        assert chain == Chain(
            base_address=base,
            models=(
                Model(id=1, address=base + 2, length=66),
                Model(id=701, address=base + 70, length=153),
                Model(id=704, address=base + 225, length=65),
            ),
        )
        await unit.client.close()


async def test_no_mark_and_no_end(peer):
    async with peer(Memory({0: 1, 1: 2})) as device:
        unit = unit_at(device)
        assert await discover(unit, 1) is None
        await unit.client.close()
    loop = chain_words(0, (1, 66), end=False) | {70: 5, 71: 0}
    async with peer(Memory(loop)) as device:
        unit = unit_at(device)
        with pytest.raises(BadAnswer, match="end"):
            await discover(unit, 1)
        await unit.client.close()


def test_a_profile_from_the_published_models_has_the_published_addresses():
    chain = Chain(
        base_address=40000,
        models=(
            Model(id=1, address=40002, length=66),
            Model(id=701, address=40070, length=153),
            Model(id=714, address=40363, length=43),
            Model(id=64999, address=40408, length=10),
        ),
    )
    profile = profile_of(chain)
    at = {p.name: p.register.address for p in profile.all_points()}
    assert at["m701.W"] == 40080
    assert at["m701.TotWhInj"] == 40089
    assert at["m701.W_SF"] == 40186
    assert at["m714.Prt1.DCV"] == 40394
    assert profile.point("m701.W").scale_point == "m701.W_SF"
    assert profile.point("m701.InvSt").label_by_code[3] == "running"
    assert profile.point("m1.Mn").type is PointType.STRING
    assert not any(name.startswith("m64999") for name in at)


def test_definitions_may_lie_anywhere(tmp_path):
    (tmp_path / "model_9.json").write_text(
        json.dumps({"group": {"points": [
            {"name": "ID", "type": "uint16", "size": 1}, {"name": "L", "type": "uint16", "size": 1},
            {"name": "X", "type": "int16", "size": 1, "units": "W", "sf": -1},
        ]}})
    )  # fmt: skip
    chain = Chain(base_address=0, models=(Model(id=9, address=2, length=1),))
    (point,) = profile_of(chain, tmp_path).points
    assert (point.name, point.register.address, str(point.scale)) == ("m9.X", 4, "0.1")


def test_without_definitions_it_says_so(monkeypatch):
    assert definitions_folder() is not None
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="pysunspec2"):
        profile_of(Chain(base_address=0, models=()))


def test_identification_objects():
    answer = bytes.fromhex("0e 01 01 ff 02 02") + b"\0\4ACME\1\7SOP-250"
    assert parse_objects(answer) == ({"vendor": "ACME", "product": "SOP-250"}, 2)


async def test_identify_asks_all_three_ways_and_follows_more(peer):
    memory = Memory(chain_words(40000, (1, 66)))

    def script(device, wire, request):
        if request[7] == 43:
            first = request[10] == 0
            pdu = bytes.fromhex("2b0e0101") + (b"\xff\2" if first else b"\0\0")
            pdu += b"\1" + (b"\0\4ACME" if first else b"\2\0032.4")
            wire.send(request[:4] + (len(pdu) + 1).to_bytes(2) + request[6:7] + pdu)
        elif request[7] == 17:
            wire.send(request[:4] + b"\0\6" + request[6:7] + b"\x11\3\x70\0\xff")
        else:
            memory(device, wire, request)

    async with peer(script) as device:
        unit = unit_at(device)
        found = await identify(unit, 1)
        assert found.objects == {"vendor": "ACME", "revision": "2.4"}
        assert found.server_id == b"\x70\0\xff"
        assert [m.id for m in found.chain.models] == [1]
        assert found.text() == "FC43: ACME / 2.4; SunSpec 1"
        assert device.functions[16] == 0
        await unit.client.close()
