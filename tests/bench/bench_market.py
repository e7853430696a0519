"""What reading one signed trade costs, beside the least anybody must do for it.

The floor is ``json.loads`` of the message and of its body, one base64 decoding and one bare Ed25519
verification. Both run in one process, alternately; the figures are medians of many rounds.

Run: python tests/bench/bench_market.py [rounds]
"""

import base64
import json
import statistics
import sys
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.market import dsse, intake, messages, schedule_document
from gateway.model.interval import Interval, utc_ms_from
from gateway.model.message import Inbound, Readable
from gateway.model.trade import Position, Trade

START_MS = utc_ms_from("2026-01-02T02:00Z")
KEY = Ed25519PrivateKey.generate()
RAW = KEY.public_key().public_bytes_raw()
SIGNERS = {dsse.keyid(RAW): RAW}
TOPIC = "p2p/v1/bench4/SOP-1/trades"
BATCH = 50


def message(count, trades=1):
    """Return a signed document with ``trades`` trades of ``count`` positions each."""
    series = []
    for number in range(trades):
        positions = tuple(
            Position(
                interval=Interval(START_MS + i * 900_000, START_MS + (i + 1) * 900_000),
                p_w=120_000,
                energy_wh=30_000,
            )
            for i in range(count)
        )
        trade = Trade(
            id=f"trd-{number}", revision_number=1, sop="SOP-1", out_domain="region-b",
            in_domain="region-a", positions=positions,
        )  # fmt: skip
        series.append(schedule_document.write(trade, site="bench4", created_utc_ms=START_MS))
    whole = json.loads(series[0])
    root = whole["Schedule_MarketDocument"]
    for other in series[1:]:
        root["TimeSeries"] += json.loads(other)["Schedule_MarketDocument"]["TimeSeries"]
    return dsse.sign(dsse.PAYLOAD_TYPE_SCHEDULE, json.dumps(whole).encode(), [KEY])


def floor(raw):
    """Do the least: parse twice, decode, verify."""
    outer = json.loads(raw)
    body = base64.b64decode(outer["payload"])
    public = Ed25519PublicKey.from_public_bytes(RAW)
    public.verify(
        base64.b64decode(outer["signatures"][0]["sig"]), dsse.pae(outer["payloadType"], body)
    )
    return json.loads(body)


def judged(raw):
    """Judge the message as the gateway does."""
    inbound = Inbound(
        topic=TOPIC, payload=raw, retain=False, qos_level=1, connection_seq=1, mid_number=1
    )
    return intake.judge(
        inbound, topic=TOPIC, site="bench4", sop="SOP-1", signers=SIGNERS, required=1
    )


def hostile(raw):
    """Judge a message made to cost as much as it can."""
    verdict = judged(raw)
    assert not isinstance(verdict, Readable)


HOSTILE = {
    "16 KiB of `[`": b"[" * dsse.SIZE_MAX,
    "16 KiB of quotes, one string": b'"' + rb"\"" * 8_000,
    "2,700 times one key": b"{" + b'"a":1,' * 2_700 + b'"a":1}',
    "17 KiB": b" " * 17_000,
}


def answered(raw):
    """Sign one acknowledgement."""
    messages.acknowledgement(
        key=KEY,
        message_sha256="0" * 64,
        trade_id="trd-1",
        revision=1,
        accepted=True,
        ledger_index=1,
    )


def measure(functions, raw, rounds):
    """Return the median CPU time of each function in µs, taken in turns."""
    times = {f.__name__: [] for f in functions}
    for _ in range(rounds):
        for function in functions:
            began = time.process_time_ns()
            for _ in range(BATCH):
                function(raw)
            times[function.__name__].append((time.process_time_ns() - began) / BATCH / 1000)
    return {name: statistics.median(found) for name, found in times.items()}


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    cases = [
        ("1 trade, 1 position", 1, 1),
        ("1 trade, 96 positions", 96, 1),
        ("8 trades, 4 positions", 4, 8),
    ]
    print("| message | bytes | floor µs | gateway µs | ratio | messages/s of one core |")
    print("|---|---|---|---|---|---|")
    for name, count, trades in cases:
        raw = message(count, trades)
        assert isinstance(judged(raw), Readable), name
        found = measure((floor, judged), raw, rounds)
        ratio = found["judged"] / found["floor"]
        rate = 1e6 / found["judged"]
        print(
            f"| {name} | {len(raw)} | {found['floor']:.0f} | {found['judged']:.0f} | {ratio:.1f} | {rate:.0f} |"
        )
    print("\n| refused | µs |\n|---|---|")
    for name, raw in HOSTILE.items():
        print(f"| {name} | {measure((hostile,), raw, rounds)['hostile']:.0f} |")
    big = dsse.sign(dsse.PAYLOAD_TYPE_SCHEDULE, b'{"Schedule_MarketDocument":{' + b",".join(
        b'"k%d":1' % i for i in range(1_100)) + b"}}", [KEY])  # fmt: skip
    print(f"| signed, 1,100 unknown fields | {measure((hostile,), big, rounds)['hostile']:.0f} |")
    signing = measure((answered,), b"", rounds)["answered"]
    print(f"\nsigning one answer: {signing:.0f} µs")


if __name__ == "__main__":
    main()
