"""How many altered trades pass: every single bit of many messages, and blind mutations.

Run: python tests/bench/bench_market_mutations.py [messages] [mutations]
"""

import random
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.market import dsse, schedule_document
from gateway.model.interval import Interval, utc_ms_from
from gateway.model.trade import Position, Trade

START_MS = utc_ms_from("2026-01-02T02:00Z")


def message(rng, keys):
    """Return a random trade signed by one or two of the keys."""
    step_ms = rng.choice((60_000, 300_000, 900_000))
    start_ms = START_MS + rng.randrange(1000) * 900_000
    positions = tuple(
        Position(
            interval=Interval(start_ms + i * step_ms, start_ms + (i + 1) * step_ms),
            p_w=(p_w := rng.randrange(4_000) * 60),
            energy_wh=p_w * step_ms // 3_600_000,
        )
        for i in range(rng.randint(1, 4))
    )
    trade = Trade(
        id=f"trd-{rng.randrange(10**9)}", revision_number=rng.randint(1, 9), sop="SOP-1",
        out_domain="region-b", in_domain="region-a", positions=positions,
    )  # fmt: skip
    body = schedule_document.write(trade, site="bench4", created_utc_ms=START_MS)
    return dsse.sign(dsse.PAYLOAD_TYPE_SCHEDULE, body, rng.sample(keys, rng.randint(1, 2)))


def mutated(rng, raw):
    """Change, drop, repeat or move some bytes."""
    text = bytearray(raw)
    for _ in range(rng.randint(1, 3)):
        i, j = rng.randrange(len(text)), rng.randrange(len(text))
        match rng.randrange(4):
            case 0:
                text[i] = rng.randrange(256)
            case 1:
                del text[i : i + rng.randint(1, 4)]
            case 2:
                text[i:i] = text[j : j + rng.randint(1, 8)]
            case _:
                text[i], text[j] = text[j], text[i]
    return bytes(text)


def main(messages, mutations):
    """Count what passes with other bytes than were signed."""
    rng = random.Random(7)
    keys = [Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2, 3)]
    raws = [k.public_key().public_bytes_raw() for k in keys]
    signers = {dsse.keyid(r): r for r in raws}

    def passes(raw):
        found = dsse.open_envelope(
            raw, payload_type=dsse.PAYLOAD_TYPE_SCHEDULE, signers=signers, required=1
        )
        return found if isinstance(found, dsse.Opened) else None

    flips = flips_passed = flips_altered = 0
    for _ in range(messages):
        raw = message(rng, keys)
        body = passes(raw).body
        for position in range(len(raw) * 8):
            flipped = bytearray(raw)
            flipped[position // 8] ^= 1 << position % 8
            flips += 1
            if found := passes(bytes(flipped)):
                flips_passed += 1
                flips_altered += found.body != body
    passed = altered = 0
    for _ in range(mutations):
        raw = message(rng, keys)
        if (changed := mutated(rng, raw)) != raw and (found := passes(changed)):
            passed += 1
            altered += found.body != passes(raw).body
    print("| alteration | tried | message still counts | with another content |\n|---|---|---|---|")
    print(f"| one bit, every bit | {flips} | {flips_passed} | {flips_altered} |")
    print(f"| bytes changed, dropped, repeated, moved | {mutations} | {passed} | {altered} |")


if __name__ == "__main__":
    counts = [int(a) for a in sys.argv[1:]]
    main(*(counts + [20, 50_000][len(counts) :]))
