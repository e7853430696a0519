"""Bad input where the market comes in: witness, node, broker topics, relay. See ``fuzz_doors.py``."""

import asyncio
import base64
import contextlib
import hashlib
import importlib.util
import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes.certificates import Authority
from fakes.core import make_site
from fakes.memory_journal import ManualClock, MemoryJournal
from fault.doors_pieces import (
    PAGE_S,
    TRACES,
    answer_of,
    at_door,
    http,
    mutated,
    odd_json,
    odd_tree,
    watching,
)

from gateway.core.state import State
from gateway.market import dsse, limits_document, schedule_writer
from gateway.market.mqtt import Broker, MarketLink
from gateway.market.office import MarketOffice
from gateway.market.relay import Relay, RelayTopics
from gateway.market.topics import Topics
from gateway.model.interval import Interval
from gateway.model.limits import FeederLimit, FeederLimits
from gateway.model.trade import Position, Trade
from gateway.runtime.desk import TradeDesk
from gateway.runtime.recorder import Recorder
from ledger.log.canonical import CanonicalError
from ledger.log.cosign import Cosigner
from ledger.log.keys import signer_of
from ledger.log.merkle import consistency_proof, leaf_hash, range_root
from ledger.log.note import Note
from ledger.network.doorway import runner_of
from ledger.network.tls import TlsFiles, calling, serving
from ledger.network.witness import Witness, request_body

TESTS = Path(__file__).resolve().parents[1]
sys.path.append(str(TESTS / "gateway" / "market"))  # for lone_node and signed_trades
WAIT_S = 60.0
ORIGIN = "elm.example/SOP-1"
LEAVES_COUNT = 64


def module_at(path):
    """Import a file of the tests that is no module of a package."""
    spec = importlib.util.spec_from_file_location(path.parent.name + path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def served(app, folder):
    """Serve an application in the clear and to whoever has a certificate; gives two openings."""
    authority = Authority(folder / "authority")
    ours, key = authority.issue("door", server=True)
    theirs, their_key = authority.issue("agent")
    door = serving(certificate=ours, key=key, clients=authority.path)
    known = calling(TlsFiles(authority=authority.path, certificate=theirs, key=their_key))
    runner = runner_of(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=door).start()
    ports = [address[1] for address in runner.addresses]
    try:
        yield (
            lambda: asyncio.open_connection("127.0.0.1", ports[0]),
            lambda: asyncio.open_connection("127.0.0.1", ports[1], ssl=known),
        )
    finally:
        await runner.cleanup()


async def both_ways(name, openings, make, count, still_good, counts):
    """Half the pieces in the clear, half through TLS with a certificate that is believed."""
    plain, secure = openings
    for said, opening, some in (
        (name, plain, count - count // 2),
        (f"{name} TLS", secure, count // 2),
    ):
        await at_door(
            said, opening, make, some, still_good, counts, ends=False, wait_s=PAGE_S
        )  # fmt: skip


class Log:
    """A tree in memory whose checkpoints are signed; may sign what is odd as well."""

    def __init__(self):
        private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
        self.signer = signer_of(private, ORIGIN)
        self.leaves = [leaf_hash(b"%d" % n) for n in range(LEAVES_COUNT)]
        self.seen = 0

    def root_of(self, start, end):
        return range_root(self.leaves, start, end)

    def text(self, size):
        root = base64.b64encode(self.root_of(0, size)).decode()
        return f"{ORIGIN}\n{size}\n{root}\n".encode()

    def request(self, size, text=None):
        """The body that goes on from what the witness has seen."""
        proof = consistency_proof(self.seen, size, self.root_of) if self.seen else []
        text = text or self.text(size)
        signed = Note(text=text, signatures=(self.signer.signature(text),))
        return request_body(self.seen, proof, signed.encode())


async def witness_doors(folder, count, chance, counts):
    """The witness: unsigned rubbish, mutated requests, and what a log signed that is odd."""
    log = Log()
    cosigner = Cosigner.ed25519(Ed25519PrivateKey.generate(), "west.example/witness")
    made = Witness(
        folder / "state", cosigners=[cosigner], logs=[log.signer.key],
        unix_s=lambda: 1_795_000_000,
    )  # fmt: skip
    kept = "/" + hashlib.sha256(ORIGIN.encode()).hexdigest() + "/checkpoint"

    def make():
        body = log.request(chance.randint(log.seen, LEAVES_COUNT))
        match chance.randrange(4):
            case 0:
                return mutated(http("POST", "/add-checkpoint", body), chance)
            case 1:
                return mutated(http("GET", kept), chance)
            case 2:
                return http("POST", "/add-checkpoint", mutated(body, chance))
        with contextlib.suppress(Exception):  # what cannot be signed is no piece
            text = mutated(log.text(log.seen), chance)
            return http("POST", "/add-checkpoint", log.request(log.seen, text))
        return http("POST", "/add-checkpoint", mutated(body, chance))

    async with served(made.application(), folder) as openings:

        async def still_good():
            size = min(log.seen + 1, LEAVES_COUNT)
            body = http("POST", "/add-checkpoint", log.request(size))
            got = await answer_of(openings[0], body, ends=False)
            if got.startswith(b"HTTP/1.1 409"):  # a piece went on before us, which may be
                log.seen = int(got.split(b"\r\n\r\n")[1])
                size = min(log.seen + 1, LEAVES_COUNT)
                body = http("POST", "/add-checkpoint", log.request(size))
                got = await answer_of(openings[0], body, ends=False)
            assert got.startswith(b"HTTP/1.1 200"), got[:300]
            assert b"west.example" in got
            log.seen = size
            got = await answer_of(openings[1], http("GET", kept), ends=False)
            assert b"\n%d\n" % size in got, got[:300]

        await still_good()
        await both_ways("witness", openings, make, count, still_good, counts)


async def node_doors(folder, count, chance, counts):
    """The market node: HTTP rubbish, odd messages, and odd ones under good signatures."""
    lone = module_at(TESTS / "gateway" / "market" / "lone_node.py")
    made = lone.LoneNode()
    net = lone.net
    app = made.server.app
    paths = ("/v1/status", "/v1/parties/R1", "/v1/rounds", "/v1/rounds/R1", "/v1/rounds/R1/trades",
             "/v1/trades")  # fmt: skip
    bodies = [
        ("op", {"kind": "join", "id": "R9", "key": net.public("R9"), "role": "region",
                "terminal": "T9"}),
        ("op", {"kind": "open", "round": "R3", "document": net.round_document()}),
        ("op", {"kind": "deposit", "id": "R1", "amount": 1}),
        ("R1", {"kind": "commit", "round": "R1", "hash": "00" * 32}),
        ("R1", {"kind": "reveal", "round": "R1", "salt": net.SALT, "offers": net.offers(1)}),
        ("R2", {"kind": "leave"}),
    ]  # fmt: skip

    def signed():
        party, body = chance.choice(bodies)
        odd = odd_tree(body, chance) if chance.random() < 0.8 else body
        try:
            return made.send(party, **odd)
        except (CanonicalError, TypeError, ValueError, RecursionError):
            return mutated(made.send(party, **body), chance)  # not even to be written down

    def make():
        match chance.randrange(5):
            case 0:
                return mutated(http("POST", "/v1/messages", signed()), chance)
            case 1:
                return mutated(http("GET", chance.choice(paths)), chance)
            case 2:
                return http("POST", "/v1/messages", odd_json(signed(), chance))
        return http("POST", "/v1/messages", signed())

    async with net.running(made.node):
        await made.round()
        async with served(app, folder) as openings:

            async def still_good():
                got = await answer_of(openings[0], http("GET", "/v1/status"), ends=False)
                status = json.loads(got.partition(b"\r\n\r\n")[2])
                assert (status["money_sum"], status["halted"]) == (0, ""), status
                more = made.send("op", kind="deposit", id="R4", amount=1)
                got = await answer_of(openings[1], http("POST", "/v1/messages", more), ends=False)
                assert got.startswith(b"HTTP/1.1 200"), got[:300]

            await both_ways("node", openings, make, count, still_good, counts)


KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
SIGNERS = {dsse.keyid(PUBLIC): PUBLIC}
START_MS = 1_800_086_400_000  # a day later than it is


def trade_document(number, *, start_ms):
    """A settled trade of a quarter of an hour."""
    span = Interval(start_ms, start_ms + 900_000)
    trade = Trade(
        id=f"trd-{number}", revision_number=1, sop="SOP-1", out_domain="region-b",
        in_domain="region-a", positions=(Position(interval=span, p_w=1000, energy_wh=250),),
    )  # fmt: skip
    return schedule_writer.write(
        trade, site="bench", created_utc_ms=start_ms - 900_000, document=f"d-{number}"
    )


def limits_body(number):
    """Limits of one feeder."""
    return limits_document.write(
        FeederLimits(
            site="bench", sop="SOP-1", sequence_number=number, created_utc_ms=START_MS - 1000,
            valid=Interval(START_MS + 86_400_000, START_MS + 90_000_000),
            limits=(FeederLimit(domain="region-a", p_w_min=-1000, p_w_max=1000),),
        )
    )  # fmt: skip


class Desk:
    """The gateway's market edge on a journal in memory."""

    def __init__(self, port):
        self.clock, self.topics = ManualClock(), Topics(site="bench", sop="SOP-1")
        self.recorder = Recorder(MemoryJournal(self.clock), State(make_site()))
        self.link = MarketLink(
            broker=Broker(host="127.0.0.1", port=port), identifier="fuzzed",
            subscriptions=[self.topics.trades, self.topics.limits],
            availability=self.topics.availability, taken_per_s=1e6,
        )  # fmt: skip
        self.office = MarketOffice(
            link=self.link, topics=self.topics, site="bench", sop="SOP-1", signers=SIGNERS,
            required=1, key=KEY, operators=SIGNERS,
        )  # fmt: skip
        self.desk = TradeDesk(market=self.office, recorder=self.recorder, clock=self.clock)

    async def run(self):
        """Take in and decide, scan after scan, until cancelled."""
        await self.recorder.record(
            "boot", version="0", site="bench", sop="SOP-1", previous_boot_index=-1, clean=True
        )
        await self.recorder.record("mode", mode="on", state="INIT", reasons=[])
        while True:
            await self.desk.take_in()
            await self.desk.decide_open(time_quality="good")
            self.clock.now_us += 200_000
            await asyncio.sleep(0.005)


@asynccontextmanager
async def broker(folder):
    """A Mosquitto of our own; gives its port."""
    made = module_at(TESTS / "gateway" / "market" / "conftest.py").Mosquitto(folder)
    await made.start()
    try:
        yield made.port
    finally:
        await made.stop()


class Sent:
    """Messages put to a broker one after the other, and every answer that came."""

    def __init__(self, client, topic_of_answers):
        self.client, self.topic = client, topic_of_answers
        self.answers, self.more = {}, asyncio.Event()

    async def listen(self):
        """Take answers until cancelled."""
        await self.client.subscribe(self.topic, qos=1)
        async for message in self.client.messages:
            if any(word in message.payload for word in TRACES):
                raise SystemExit(f"a stack trace at {message.topic}: {message.payload[:300]!r}")
            answer = json.loads(message.payload)
            answer = json.loads(dsse.peek(message.payload) or b"{}") | answer
            self.answers[answer["message_sha256"]] = answer
            self.more.set()

    async def put(self, topic, payload, *, retain=False):
        """Publish; returns what its answer will name."""
        await self.client.publish(topic, payload, qos=1, retain=retain)
        return hashlib.sha256(payload).hexdigest()

    async def answered(self, sha256):
        """Wait for an answer."""
        async with asyncio.timeout(WAIT_S):
            while sha256 not in self.answers:
                self.more.clear()
                await self.more.wait()
        return self.answers[sha256]


async def at_topic(name, sent, make, count, good, counts):
    """Put ``count`` pieces to a broker; every one is answered, and a good one taken."""
    with watching() as watch:
        for done in range(0, count, 50):
            pieces = [make() for _ in range(min(50, count - done))]
            names = [await sent.put(*piece) for piece in pieces]
            for sha256, piece in zip(names, pieces, strict=True):
                try:
                    accepted = (await sent.answered(sha256))["accepted"]
                except TimeoutError:
                    raise SystemExit(f"{name}: no answer to {piece!r}") from None
                counts[name, "taken" if accepted else "refused"] += 1
            if heard := watch.asked():
                raise SystemExit(f"{name}: {heard[0]}")
            if done % 500 == 0 or done + 50 >= count:
                await good()
    print(f"{name}: {count} pieces", file=sys.stderr)


async def market_doors(folder, count, chance, counts):
    """The topics of trades and of feeder limits, by a real broker."""
    numbers = iter(range(1, 10**9))

    def make():
        number = next(numbers)
        body, kind, topic = trade_document(number, start_ms=START_MS), dsse.PAYLOAD_TYPE_SCHEDULE, 0
        if chance.random() < 0.2:
            body, kind, topic = limits_body(number), dsse.PAYLOAD_TYPE_LIMITS, 1
        match chance.randrange(4):
            case 0:
                payload = mutated(dsse.sign(kind, body, [KEY]), chance)
            case 1:
                payload = odd_json(dsse.sign(kind, body, [KEY]), chance)
            case _:
                payload = dsse.sign(kind, odd_json(body, chance), [KEY])
        return (desk.topics.trades, desk.topics.limits)[topic], payload

    async def good():
        payload = dsse.sign(
            dsse.PAYLOAD_TYPE_SCHEDULE,
            trade_document(f"good-{next(numbers)}", start_ms=START_MS + 900_000),
            [KEY],
        )
        answer = await sent.answered(await sent.put(desk.topics.trades, payload))
        assert answer["accepted"], answer

    async with broker(folder) as port, asyncio.TaskGroup() as group:
        desk = Desk(port)
        working = [group.create_task(desk.link.run()), group.create_task(desk.run())]
        async with aiomqtt.Client("127.0.0.1", port, identifier="market") as client:
            sent = Sent(client, desk.topics.acknowledgements)
            working.append(group.create_task(sent.listen()))
            await desk.link.online.wait()
            await at_topic("market topics", sent, make, count, good, counts)
            for task in working:
                task.cancel()


async def relay_door(folder, count, chance, counts):
    """The relay's topics: agents on a broker, a real node behind it."""
    lone = module_at(TESTS / "gateway" / "market" / "lone_node.py")
    topics = RelayTopics("m")

    def make():
        party = chance.choice(("R1", "R2", "op", "nobody", "x y", "R1\u00e9"))
        body = {"kind": "commit", "round": "R1", "hash": "00" * 32}
        message = made.send(chance.choice(("R1", "R2")), **body)
        # A party whose name cannot be part of a topic hears nothing: its number is not waited for.
        party = party if party.isascii() and " " not in party else "R3"
        return topics.message(party), odd_json(message, chance)

    async def good():
        message = made.send("op", kind="deposit", id="R4", amount=1)
        answer = await sent.answered(await sent.put(topics.message("op"), message))
        assert answer["accepted"], answer

    async with broker(folder) as port, lone.LoneNode().up() as made, asyncio.TaskGroup() as group:
        relay = Relay(broker=Broker(host="127.0.0.1", port=port), market="m", url=made.url)
        working = [group.create_task(relay.run())]
        async with aiomqtt.Client("127.0.0.1", port, identifier="agents") as client:
            sent = Sent(client, "sopl/v1/m/answer/#")
            working.append(group.create_task(sent.listen()))
            await relay.link.online.wait()
            await at_topic("relay topics", sent, make, count, good, counts)
            for task in working:
                task.cancel()
