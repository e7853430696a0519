"""Bad messages over a real broker: refused with every reason, answered once, no device touched."""

import json

import aiomqtt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes.rig import Rig

from gateway.market import dsse
from gateway.market.topics import Topics


def reasons(answers):
    assert answers.doubts == []
    assert len(answers.by_trade) == 1
    (answer,) = answers.by_trade.values()
    assert answer["accepted"] is False
    return [r["code"] for r in answer["reasons"]]


def altered(payload, old, new):
    envelope = json.loads(payload)
    envelope[old] = new
    return json.dumps(envelope).encode()


async def test_every_kind_of_bad_message_is_refused_and_nothing_is_written(tmp_path):
    rig = Rig(tmp_path, factor=5, gate="2 min")
    topics = Topics(site="demo", sop="SOP-1")

    async def leave_a_stored_message():
        stored = rig.signed(rig.trade("trd-5", "T2", "T3", 60_000, rig.next_minute_ms(600_000)))
        async with aiomqtt.Client("127.0.0.1", rig.broker_port) as client:
            await client.publish(topics.trades, stored, qos=1, retain=True)

    async with rig.up(before=leave_a_stored_message):
        await rig.until(lambda s: s["state"] == "READY")
        before = await rig.truth()
        good = rig.trade("trd-1", "T2", "T3", 60_000, rig.next_minute_ms(300_000))
        late = rig.trade("trd-2", "T2", "T3", 60_000, rig.next_minute_ms(30_000))
        foreign = rig.trade("trd-3", "T2", "T3", 60_000, good.start_ms)
        unknown = rig.trade("trd-4", "T2", "T3", 60_000, good.start_ms)
        signed = rig.signed(good)
        assert "unsigned" in reasons(await rig.send(altered(signed, "signatures", [])))
        assert "signer_unknown" in reasons(
            await rig.send(rig.signed(foreign, Ed25519PrivateKey.generate()))
        )
        tampered = rig.document(good).replace(b'"60"', b'"61"')
        body = json.loads(signed) | {"payload": json.loads(dsse.sign("x", tampered, []))["payload"]}
        assert "signature" in reasons(await rig.send(json.dumps(body).encode()))
        assert reasons(await rig.send(b"{not json"))
        assert reasons(await rig.send(b'{"a":' * 50 + b"1" + b"}" * 50))
        assert reasons(await rig.send(b" " * 20_000 + signed)) == ["oversized"]
        assert reasons(await rig.send(rig.signed(late))) == ["late"]
        other = rig.document(unknown).replace(b"region-c", b"region-x")
        raw = dsse.sign(dsse.PAYLOAD_TYPE_SCHEDULE, other, [rig.key])
        assert reasons(await rig.send(raw)) == ["unknown_domain"]
        first = await rig.send(signed)
        assert first.accepted
        again = await rig.send(signed)
        assert again.accepted, "a repetition is told what the first was told"
        (told, repeated) = (a.by_trade["trd-1"]["ledger_index"] for a in (first, again))
        assert told == repeated
        conflict = rig.signed(rig.trade("trd-1", "T2", "T3", 30_000, good.start_ms))
        assert reasons(await rig.send(conflict)) == ["conflict"]
        after = await rig.truth()
        assert after["selects"] == before["selects"] == 0
    entries = rig.entries()
    refused = [e for e in entries if e["kind"] == "trade.refused"]
    received = [e for e in entries if e["kind"] == "trade.received"]
    accepted = [e for e in entries if e["kind"] == "trade.accepted"]
    assert len(received) == len(refused) + len(accepted)
    assert [e["trade_id"] for e in accepted] == ["trd-1"]
    assert ["retained"] in [[r["code"] for r in e["reasons"]] for e in refused]
    assert not [e for e in entries if e["kind"] == "intent" and e["setpoints"]]
