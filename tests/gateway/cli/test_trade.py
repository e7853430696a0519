"""``sopgw trade``: a key, a signed trade, a real broker, a gateway that answers, a real ledger."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from xml.etree import ElementTree

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes.new_trade import NEW

from gateway.__main__ import main
from gateway.cli import trade_story
from gateway.market import dsse, intake, messages, mqtt, schedule_xml
from gateway.market.topics import Topics
from gateway.model.message import Readable
from ledger.log import canonical
from ledger.log.keys import signer_of
from ledger.log.writer import LedgerWriter

GATEWAY = Ed25519PrivateKey.from_private_bytes(bytes(32))
GATEWAY_KEY = base64.b64encode(GATEWAY.public_key().public_bytes_raw()).decode()
TOPICS = Topics(site="bench4", sop="SOP-1")


@pytest.fixture
def broker(tmp_path):
    if shutil.which("mosquitto") is None:
        if os.environ.get("SOPGW_REQUIRE_SERVERS") == "1":
            pytest.fail("mosquitto is not installed, SOPGW_REQUIRE_SERVERS=1 asks for it")
        pytest.skip("mosquitto is not installed")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_dest none\n")
    process = subprocess.Popen(["mosquitto", "-c", str(config)])
    for _ in range(500):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            break
        threading.Event().wait(0.02)
    yield f"mqtt://127.0.0.1:{port}"
    process.terminate()
    process.wait()


@contextlib.contextmanager
def answering(broker, signers, *, key=GATEWAY, answer=True):
    """A gateway that judges and answers, in a thread with a loop of its own."""
    ready, stop = threading.Event(), None

    async def serve():
        nonlocal stop
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        stop = lambda: loop.call_soon_threadsafe(ended.set)  # noqa: E731
        link = mqtt.MarketLink(
            broker=mqtt.broker_from(broker),
            identifier="gateway",
            subscriptions=[TOPICS.trades],
            availability=TOPICS.availability,
        )

        async def answer_all():
            await link.online.wait()
            ready.set()
            while True:
                inbound = await link.inbox.get()
                verdict = intake.judge(
                    inbound, topic=TOPICS.trades, site="bench4", sop="SOP-1",
                    signers=signers, required=1,
                )  # fmt: skip
                good = isinstance(verdict, Readable)
                await link.acknowledge(inbound)
                raw = messages.acknowledgement(
                    key=key,
                    message_sha256=verdict.sha256,
                    trade_id="trd-1" if good else None,
                    revision=verdict.revision_number,
                    accepted=good,
                    reasons=() if good else verdict.reasons,
                    ledger_index=7,
                )
                if answer:
                    await link.publish(TOPICS.acknowledgement("trd-1"), raw)

        tasks = [asyncio.create_task(link.run()), asyncio.create_task(answer_all())]
        await ended.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(20)
    try:
        yield
    finally:
        stop()
        thread.join()


def signers_of(path):
    public = json.loads(path.read_bytes())["signatures"][0]["keyid"]
    pem = path.parent / "market.pem"
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    raw = load_pem_private_key(pem.read_bytes(), None).public_key().public_bytes_raw()
    assert dsse.keyid(raw) == public
    return {public: raw}


def test_a_submitted_trade_is_answered(trade, signed, broker):
    with answering(broker, signers_of(signed)):
        code, answer = trade("submit", signed, "--broker", broker, "--gateway-key", GATEWAY_KEY)
    assert code == 0
    (acknowledgement,) = answer["data"]["answers"]
    assert acknowledgement["accepted"] is True
    assert acknowledgement["trade_id"] == "trd-1"
    assert answer["data"]["verified"] is True


def test_a_refusal_ends_with_five_and_every_reason(trade, signed, broker):
    with answering(broker, {}):
        code, answer = trade("submit", signed, "--broker", broker, "--gateway-key", GATEWAY_KEY)
    assert code == 5
    assert [e["code"] for e in answer["errors"]] == ["signer_unknown", "signers_too_few"]


def test_an_answer_of_another_key_is_not_believed(trade, signed, broker):
    other = Ed25519PrivateKey.generate()
    with answering(broker, signers_of(signed), key=other):
        code, answer = trade(
            "submit", signed, "--broker", broker, "--gateway-key", GATEWAY_KEY, "--wait", "1s"
        )
    assert code == 8
    assert answer["errors"][0]["code"] == "signer_unknown"


def test_no_answer_ends_with_four(trade, signed, broker):
    with answering(broker, signers_of(signed), answer=False):
        code, _ = trade("submit", signed, "--broker", broker, "--wait", "300ms")
    assert code == 4


def test_no_broker_ends_with_four(trade, signed):
    assert trade("submit", signed, "--broker", "mqtt://127.0.0.1:1", "--wait", "1s")[0] == 4


def test_the_gateway_key_comes_in_three_spellings(tmp_path, trade, signed):
    raw = base64.b64decode(GATEWAY_KEY)
    vkey = "bench4.example/SOP-1+01234567+" + base64.b64encode(b"\x01" + raw).decode()
    (tmp_path / "ledger.vkey").write_text(vkey + "\n")
    from gateway.cli.trade import _public

    assert _public(GATEWAY_KEY) == raw
    assert _public(vkey) == raw
    assert _public(str(tmp_path / "ledger.vkey")) == raw
    assert trade("submit", signed, "--broker", "mqtt://h", "--gateway-key", "abc")[0] == 2


INTERVAL = {"start": "2026-01-02T02:00Z", "end": "2026-01-02T02:15Z"}
COMMON = {"utc_us": 1_767_319_200_000_000, "mono_us": 1, "boot": 1, "tq": "good"}
ENTRIES = [
    {"kind": "trade.received", "topic": "t", "retain": False, "size": 900, "sha256": "a", "payload": ""},
    {"kind": "trade.accepted", "received_index": 0, "trade_id": "trd-1", "revision": 1,
     "out_terminal": "T2", "in_terminal": "T1",
     "positions": [{"interval": INTERVAL, "p_w": 120_000, "energy_wh": 30_000}]},
    {"kind": "trade.received", "topic": "t", "retain": True, "size": 900, "sha256": "a", "payload": ""},
    {"kind": "trade.refused", "received_index": 2, "trade_id": "trd-1",
     "reasons": [{"code": "retained", "detail": ""}, {"code": "duplicate", "detail": "entry 1"}]},
    {"kind": "trade.received", "topic": "t", "retain": False, "size": 9, "sha256": "b", "payload": ""},
    {"kind": "trade.refused", "received_index": 4, "trade_id": None,
     "reasons": [{"code": "form", "detail": "not JSON"}]},
    {"kind": "plan", "sop": "SOP-1", "interval": INTERVAL, "setpoints": {}, "planned_wh": {},
     "trades": [{"trade_id": "trd-1", "revision": 1, "out_terminal": "T2", "in_terminal": "T1",
                 "contracted_wh": 30_000, "planned_wh": 28_000,
                 "reasons": [{"code": "guard_p", "detail": ""}]}]},
    {"kind": "intent", "sop": "SOP-1", "instr_id": 5, "authority": "plan", "plan_index": 6,
     "setpoints": [{"terminal": "T1", "mode": 1, "p_w": 0, "q_var": 0},
                   {"terminal": "T2", "mode": 0, "p_w": -112_000, "q_var": 0}]},
    {"kind": "intent", "sop": "SOP-1", "instr_id": 6, "authority": "operator", "plan_index": -1,
     "command": "EXIT_STANDBY"},
    {"kind": "delivery", "sop": "SOP-1", "interval": INTERVAL, "terminals": [],
     "trades": [{"trade_id": "trd-1", "contracted_wh": 30_000, "planned_wh": 28_000,
                 "delivered_wh": 27_990, "status": "partial", "reasons": ["guard_p"]}],
     "loss_wh": 0, "unscheduled_wh": 0},
]  # fmt: skip


@pytest.fixture
async def ledger(tmp_path):
    signer = signer_of(GATEWAY, "bench4.example/SOP-1")
    writer = LedgerWriter.open(tmp_path / "ledger", signer=signer, origin=signer.name)
    await writer.append_many([canonical.encode(COMMON | e) for e in ENTRIES])
    await writer.close()
    return tmp_path / "ledger"


def test_the_list_says_what_became_of_each_trade(trade, ledger, capsys):
    code, answer = trade("ls", "--ledger", ledger)
    assert code == 0
    first, second = answer["data"]["trades"]
    assert first == {
        "id": "trd-1", "revision": 1, "seller_terminal": "T2", "buyer_terminal": "T1",
        "contracted_wh": 30_000, "delivered_wh": 27_990, "status": "partial", "reasons": ["guard_p"],
    }  # fmt: skip
    assert second["id"] == "message in entry 4"
    assert second["status"] == "refused"
    site = ledger.parent / "site.yaml"  # only where its ledger lies is asked
    site.write_text("ledger: {dir: ledger}\n")
    assert trade("ls", "-c", site)[1]["data"] == answer["data"]
    assert trade("show", "trd-1", "-c", site)[0] == 0
    assert main(["trade", "ls", "--ledger", str(ledger)]) == 0
    assert "trd-1               1    T2 → T1  30.00 kWh   27.99 kWh  partial guard_p" in (
        capsys.readouterr().out
    )


def test_a_story_names_every_entry(trade, ledger, capsys):
    code, answer = trade("show", "trd-1", "--ledger", ledger)
    assert code == 0
    assert [e["index"] for e in answer["data"]["entries"]] == [0, 1, 2, 3, 6, 7, 9]
    assert main(["trade", "show", "trd-1", "--ledger", str(ledger)]) == 0
    told = capsys.readouterr().out
    for words in (
        "trd-1  revision 1  T2 → T1  partial",
        "refused: retained; duplicate entry 1",
        "planned 28.00 kWh from 2026-01-02T02:00Z, curtailed by guard_p",
        "instruction 5 (plan): T1 0.0 kW, T2 -112.0 kW",
        "delivered 27.99 kWh of 30.00 kWh until 2026-01-02T02:15Z: partial guard_p",
    ):
        assert words in told
    assert trade("show", "nothing", "--ledger", ledger)[0] == 1


def test_a_cancelled_trade_and_a_mixed_one_are_named_so():
    nothing = ENTRIES[1] | {
        "revision": 2,
        "positions": [{"interval": INTERVAL, "p_w": 0, "energy_wh": 0}],
    }
    found = trade_story.stories(enumerate([ENTRIES[0], ENTRIES[1], nothing]))
    assert found["trd-1"].status == "cancelled"
    other = json.loads(json.dumps(ENTRIES[9]))
    other["trades"][0] |= {"status": "delivered", "reasons": []}
    found = trade_story.stories(enumerate([ENTRIES[0], ENTRIES[1], ENTRIES[9], other]))
    assert found["trd-1"].status == "partial"


def test_a_receipt_of_an_unknown_trade_is_not_written(trade, ledger, tmp_path):
    assert trade("receipt", "nothing", "--ledger", ledger, "-o", tmp_path / "r.json")[0] == 1
    assert not (tmp_path / "r.json").exists()


UFTP = ["--sender", "sop.example.com", "--recipient", "dso.example.com", "--congestion-point",
        "ea1.2026-01.example.com:feeder-2", "--time-zone", "Europe/Amsterdam", "--side", "buyer"]  # fmt: skip


def test_a_signed_trade_is_exported_as_valid_xml(tmp_path, trade, signed):
    code, answer = trade("export", signed, "--format", "xml", "-o", tmp_path / "out")
    assert code == 0
    (file,) = answer["data"]["files"]
    assert schedule_xml.schema().faults(Path(file).read_bytes()) == []


def test_a_trade_the_standard_cannot_carry_is_named(tmp_path, trade):
    trade("keygen", tmp_path / "market.pem")
    path = tmp_path / "long.json"
    trade(
        "sign",
        *NEW,
        "--to",
        "a-region-with-a-long-name",
        "--key",
        tmp_path / "market.pem",
        "-o",
        path,
    )
    code, answer = trade("export", path, "--format", "xml", "-o", tmp_path / "out")
    assert code == 1
    assert "in_Domain.mRID" in answer["errors"][0]["message"]
    assert not (tmp_path / "out").exists()


def test_an_order_and_its_settlement_are_exported_for_the_operator(tmp_path, trade, signed, ledger):
    code, answer = trade("export", signed, "--format", "flex-order", *UFTP, "-o", tmp_path / "out")
    assert code == 0
    order = ElementTree.parse(answer["data"]["files"][0]).getroot()
    assert order.find("ISP").get("Power") == "-120000"
    code, answer = trade(
        "export", signed, "--format", "flex-settlement", "--ledger", ledger, *UFTP, "-o", tmp_path / "out"
    )  # fmt: skip
    assert code == 0
    settled = ElementTree.parse(answer["data"]["files"][0]).getroot()
    isp = settled.find("FlexOrderSettlement/ISP")
    assert isp.get("ActualPower") == "-111960"  # 27.99 kWh in a quarter of an hour
    assert isp.get("PowerDeficiency") == "-8040"


def test_an_export_that_lacks_something_is_a_usage_error(tmp_path, trade, signed):
    out = ["-o", tmp_path / "out"]
    assert trade("export", signed, "--format", "flex-order", *out)[0] == 2
    assert trade("export", signed, "--format", "flex-settlement", *UFTP, *out)[0] == 2
    assert trade("export", signed, "--format", "csv", *out)[0] == 2
    asia = [*UFTP[:-3], "Asia/Shanghai", *UFTP[-2:]]
    assert trade("export", signed, "--format", "flex-order", *asia, *out)[0] == 1
    assert trade("export", signed, "--format", "flex-order", *asia, "--any-zone", *out)[0] == 0
    (tmp_path / "bad.json").write_text("{}")
    assert trade("export", tmp_path / "bad.json", "--format", "xml", *out)[0] == 1
