"""Region agents by MQTT: a real broker, a real door, messages that outlive all three."""

import asyncio
import contextlib
import hashlib
import json

import aiohttp
import aiomqtt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner
from lone_node import LoneNode, net

from gateway.cli.relay import relay as relay_command
from gateway.market import canonical
from gateway.market.mqtt import Broker
from gateway.market.relay import MESSAGE_BYTES_MAX, Relay, RelayTopics
from gateway.model.message import Inbound
from ledger.cli import sopledger
from ledger.network import message

TOPICS = RelayTopics("m")


class Agents:
    """Sends as the regions would and waits for the answers."""

    def __init__(self, client):
        self.client = client
        self.answers = {}

    async def send(self, party, raw):
        await self.client.publish(TOPICS.message(party), raw, qos=1)
        return hashlib.sha256(raw).hexdigest()

    async def answered(self, sha256):
        async with asyncio.timeout(60):
            while sha256 not in self.answers:
                message = await anext(self.client.messages)
                answer = json.loads(message.payload)
                party = str(message.topic).split("/")[4]
                assert str(message.topic) == TOPICS.answer(party, answer["message_sha256"])
                self.answers[answer["message_sha256"]] = answer
        return self.answers[sha256]

    async def say(self, party, raw):
        return await self.answered(await self.send(party, raw))


@contextlib.asynccontextmanager
async def agents(port):
    async with aiomqtt.Client("127.0.0.1", port, identifier="agents") as client:
        await client.subscribe("sopl/v1/m/answer/#", qos=1)
        yield Agents(client)


@contextlib.asynccontextmanager
async def relaying(port, url):
    relay = Relay(broker=Broker(host="127.0.0.1", port=port), market="m", url=url)
    task = asyncio.create_task(relay.run())
    try:
        await asyncio.wait_for(relay.link.online.wait(), 10)
        yield relay
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def sealed(lone, i):
    offers = {"0": 0, "1": 100 * i}
    seal = net.commitment(net.SALT, offers, party=f"R{i}", round_id="R2")
    return lone.send(f"R{i}", kind="commit", round="R2", hash=seal), offers


async def test_a_round_is_sealed_and_opened_by_mqtt_and_refusals_say_why(mosquitto):
    async with (
        LoneNode().up() as lone,
        relaying(mosquitto.port, lone.url),
        agents(mosquitto.port) as ours,
    ):
        later = {"start": "2026-01-02T03:00Z", "end": "2026-01-02T03:15Z"}
        document = {**net.round_document(), "interval": later}
        opening = lone.send("op", kind="open", round="R2", document=document)
        assert (await ours.say("op", opening))["accepted"]
        offers = {}
        for i in range(1, 5):
            message, offers[i] = sealed(lone, i)
            answer = await ours.say(f"R{i}", message)
            assert answer["accepted"]
            assert answer["height"] == lone.node.replica.height
        # The same again is harmless: the answer is that of the first time.
        assert (await ours.say("R4", message)) == answer
        early = lone.send("R1", kind="reveal", round="R2", salt=net.SALT, offers=offers[1])
        answer = await ours.say("R1", early)
        assert "too early" in answer["errors"][0]["message"]
        answer = await ours.say("R1", b'{"party":"R1"}')
        assert (answer["accepted"], answer["height"]) == (False, -1)
        lone.clock.set(-55.5)
        for i in range(1, 5):
            body = {"kind": "reveal", "round": "R2", "salt": net.SALT, "offers": offers[i]}
            assert (await ours.say(f"R{i}", lone.send(f"R{i}", **body)))["accepted"]
        late = lone.send("R1", kind="commit", round="R2", hash="00" * 32)
        answer = await ours.say("R1", late)
        assert "the gate is closed" in answer["errors"][0]["message"]
    revealed = lone.node.replica.market.rounds["R2"]["offers"]
    assert revealed == {f"R{i}": offers[i] for i in range(1, 5)}


async def test_the_broker_keeps_what_the_node_has_not_made_final(mosquitto):
    """The node is away, then the relay dies, then both come back: nothing is lost or doubled."""
    lone = LoneNode()
    away = True

    async def door(request, handler):
        return web.Response(status=503, text="{}") if away else await handler(request)

    lone.server.app.middlewares.append(web.middleware(door))
    async with lone.up(), agents(mosquitto.port) as ours:
        messages = [lone.send("op", kind="deposit", id=f"R{i}", amount=10 * i) for i in range(1, 5)]

        def deposits():
            parties = lone.node.replica.market.registry.parties
            return [parties[f"R{i}"]["deposit"] for i in range(1, 5)]

        before = deposits()
        async with relaying(mosquitto.port, lone.url) as relay:
            names = [await ours.send("op", raw) for raw in messages]
            async with asyncio.timeout(60):
                while relay.link.inbox.empty() and not relay._node_away:
                    await asyncio.sleep(0.01)
        assert deposits() == before
        away = False
        async with relaying(mosquitto.port, lone.url):
            for name in names:
                assert (await ours.answered(name))["accepted"]
        assert deposits() == [found + 10 * i for i, found in enumerate(before, 1)]


def test_a_message_is_signed_without_a_node(tmp_path):
    key = tmp_path / "a.key"
    runner = CliRunner()
    found = runner.invoke(sopledger, ["node", "keygen", str(key), "--name", "a"], standalone_mode=False)  # fmt: skip
    assert found.exception is None
    file = tmp_path / "message.json"
    arguments = ["round", "leave", "--party", "a", "--key", str(key)]
    found = runner.invoke(sopledger, [*arguments, "--out", f"{file},m,7", "--json"], standalone_mode=False)  # fmt: skip
    document = json.loads(found.stdout)
    raw = file.read_bytes()
    assert document["data"]["message_sha256"] == hashlib.sha256(raw).hexdigest()
    from ledger.network.message import read_message

    message = read_message("m", raw)
    assert (message.party, message.seq, message.body) == ("a", 7, {"kind": "leave"})
    wrong = runner.invoke(sopledger, [*arguments, "--out", f"{file},m"])
    assert wrong.exit_code != 0


@pytest.mark.parametrize("market", ["a/b", "#", "", "+"])
def test_only_names_become_topics(market):
    with pytest.raises(ValueError, match="topic"):
        RelayTopics(market)
    arguments = [market, "--broker", "mqtt://127.0.0.1:1"]
    assert CliRunner().invoke(relay_command, arguments).exit_code == 2


@contextlib.asynccontextmanager
async def door_of(answer, **limits):
    """A relay before a door that gives this answer, and what hands it a payload."""
    app = web.Application(**limits)
    app.router.add_post("/v1/messages", answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        broker = Broker(host="127.0.0.1", port=1)  # never spoken to
        relay = Relay(broker=broker, market="m", url=str(server.make_url("/")))

        async def hand_in(payload):
            inbound = Inbound(
                topic=TOPICS.message("R1"), payload=payload, retain=False, qos_level=1,
                connection_seq=1, mid_number=1,
            )  # fmt: skip
            return await asyncio.wait_for(relay._hand_in(session, inbound, None), 20)

        yield hand_in


async def test_an_answer_of_the_node_that_nobody_can_read_is_asked_for_again(monkeypatch):
    monkeypatch.setattr("gateway.market.relay.AGAIN_S", 0.01)
    answers = [b"[" * 20_000, b"{", b"[]", b'{"height": 7}']

    async def door(_request):
        return web.Response(body=answers.pop(0))

    async with door_of(door) as hand_in:
        answer = await hand_in(b"{}")
    assert (answer["accepted"], answer["height"], answers) == (True, 7, [])


async def test_a_message_that_no_node_takes_is_refused_without_asking_one():
    """The door's own 413 is plain text, which was asked for again for ever."""
    asked = []

    async def door(request):
        asked.append(len(await request.read()))
        return web.json_response({"height": 7})

    async with door_of(door, client_max_size=96_000) as hand_in:
        large, most = await hand_in(b"x" * 100_000), await hand_in(b"x" * MESSAGE_BYTES_MAX)
    assert large["accepted"] is False
    assert large["message_sha256"] == hashlib.sha256(b"x" * 100_000).hexdigest()
    (error,) = large["errors"]
    assert error["message"] == f"100000 bytes, at most {MESSAGE_BYTES_MAX}"
    assert (most["accepted"], asked) == (True, [MESSAGE_BYTES_MAX])
    assert message.MESSAGE_BYTES_MAX == MESSAGE_BYTES_MAX


@pytest.mark.parametrize("count", [6_000, 60_000])
async def test_a_refusal_with_very_many_reasons_is_heard_with_the_first_of_them(count):
    """600 kB come in pieces; 6 MB are more than is read, and are a refusal all the same."""
    errors = [{"path": f"$.offers.{n}", "message": "y" * 90} for n in range(count)]

    async def door(_request):
        return web.json_response({"accepted": False, "height": 7, "errors": errors}, status=409)

    async with door_of(door) as hand_in:
        answer = await hand_in(b"{}")
    assert answer["accepted"] is False
    if count == 6_000:
        assert (answer["height"], answer["errors"]) == (7, errors[:64])
    else:
        assert (answer["height"], len(answer["errors"])) == (-1, 1)


@pytest.mark.parametrize("status", [400, 409, 413])
async def test_a_final_answer_without_a_readable_reason_is_final(status):
    async def door(_request):
        return web.Response(status=status, text="Request Entity Too Large")

    async with door_of(door) as hand_in:
        answer = await hand_in(b"{}")
    assert (answer["accepted"], answer["height"]) == (False, -1)
    assert str(status) in answer["errors"][0]["message"]


async def test_what_is_passed_on_of_a_refusal_has_an_end():
    errors = [{"path": "$." + "p" * 40_000, "message": "\ud800" + "m" * 40_000}]

    async def door(_request):
        return web.json_response({"height": 7, "errors": errors}, status=409)

    async with door_of(door) as hand_in:
        answer = await hand_in(b"{}")
    assert len(canonical.encode(answer)) < 3_000


async def test_one_partys_rubbish_does_not_hold_up_the_others(mosquitto):
    async with (
        LoneNode().up() as lone,
        relaying(mosquitto.port, lone.url),
        agents(mosquitto.port) as ours,
    ):
        large = await ours.send("X", b"x" * 100_000)
        many = {f"bad-{n:05}": 1 for n in range(3_000)}
        body = {"kind": "reveal", "round": "R1", "salt": net.SALT, "offers": many}
        wrong = await ours.send("R1", lone.send("R1", **body))
        deposit = lone.send("op", kind="deposit", id="R1", amount=10)
        assert (await ours.say("op", deposit))["accepted"]
        assert not (await ours.answered(large))["accepted"]
        refused = await ours.answered(wrong)
    assert not refused["accepted"]
    assert 0 < len(refused["errors"]) <= 64
