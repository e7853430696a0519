"""Mutated Modbus replies against the strict framing: none may be taken unless it is canonical.

    python tests/fault/fuzz_modbus.py --count 1000000 --seed 1

The oracle writes, for every accepted reply, the one byte string that the request permits with that
payload, and compares. Prints counts by outcome as JSON; exit 1 at the first violation.
"""

import argparse
import json
import random
import struct
import sys
import time
from collections import Counter

from gateway.devices.modbus import frame
from gateway.devices.modbus.frame import Refusal, WrongAnswer
from gateway.devices.profile import Table


def crc(data):
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return value.to_bytes(2, "little")


def request_of(rng):
    unit, address = rng.randrange(256), rng.randrange(60000)
    match rng.randrange(6):
        case 0:
            return frame.write_registers(
                unit, address, [rng.randrange(65536)] * rng.randint(1, 123)
            )
        case 1:
            return frame.write_register(unit, address, rng.randrange(65536))
        case 2:
            return frame.read(unit, Table.COIL, address, rng.randint(1, 2000))
        case 3:
            return frame.read(unit, Table.INPUT, address, rng.choice((1, 2, 3, 4, 125)))
        case _:
            return frame.read(unit, Table.HOLDING, address, rng.randint(1, 125))


def canonical_pdu(request, payload):
    function = request.pdu[0]
    if function in (5, 6, 15, 16):
        return request.pdu[:5]
    return bytes((function, len(payload))) + payload


def expected_size(request):
    function = request.pdu[0]
    count = struct.unpack_from(">H", request.pdu, 3)[0]
    return {1: (count + 7) // 8, 2: (count + 7) // 8, 3: 2 * count, 4: 2 * count}.get(function, 0)


def tcp(request, tid, pdu):
    return struct.pack(">HHHB", tid, 0, len(pdu) + 1, request.unit) + pdu


def rtu(request, pdu):
    body = bytes((request.unit,)) + pdu
    return body + crc(body)


def mutate(rng, data):
    """One to four hits: bits, bytes, cuts, insertions, swaps, length fields, copies."""
    data = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
        at = rng.randrange(len(data)) if data else 0
        match rng.randrange(8):
            case 0 if data:
                data[at] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at] = rng.choice((0, 1, 2, 3, 4, 0x7F, 0x80, 0x83, 0x90, 0xFF))
            case 2:
                del data[at:]
            case 3:
                data[at:at] = rng.randbytes(rng.randint(1, 4))
            case 4 if data:
                del data[at : at + rng.randint(1, 3)]
            case 5 if len(data) > 8:
                place = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8))
                data[place] = rng.randrange(256)
            case 6:
                data += data[: rng.randint(0, 20)]
            case _ if data:
                other = rng.randrange(len(data))
                data[at], data[other] = data[other], data[at]
    return bytes(data)


def one(rng, counts):
    """One mutated reply on each wire; a message when the framing believed a lie."""
    request = request_of(rng)
    if rng.random() < 0.1:
        pdu = bytes((request.pdu[0] | 0x80, rng.randrange(256)))
        payload = None
    else:
        payload = rng.randbytes(expected_size(request))
        pdu = canonical_pdu(request, payload)
    tid = rng.randint(1, 65535)
    for wire, data in (("tcp", tcp(request, tid, pdu)), ("rtu", rtu(request, pdu))):
        data = mutate(rng, data)
        try:
            taken = (
                frame.judge_tcp(request, tid, data)
                if wire == "tcp"
                else frame.judge_rtu(request, data)
            )
        except WrongAnswer as lie:
            counts[f"{wire} refused: {lie.kind}"] += 1
            continue
        except Refusal as refusal:
            counts[f"{wire} exception"] += 1
            no = bytes((request.pdu[0] | 0x80, refusal.code))
            canonical = tcp(request, tid, no) if wire == "tcp" else rtu(request, no)
            if not data.startswith(canonical):
                return f"{wire}: believed the exception in {data.hex()}"
            continue
        if taken is None:
            counts[f"{wire} waits for more"] += 1
            continue
        counts[f"{wire} accepted"] += 1
        answer = canonical_pdu(request, taken[0])
        canonical = tcp(request, tid, answer) if wire == "tcp" else rtu(request, answer)
        if data[: taken[1]] != canonical or len(taken[0]) != expected_size(request):
            return f"{wire}: believed {data.hex()} for {request.pdu.hex()} as {tid}"
    return None


def run(count, seed):
    """Return the counts by outcome and the first violation, if any."""
    rng, counts = random.Random(seed), Counter()
    for number in range(count):
        wrong = one(rng, counts)
        if wrong:
            return counts, f"seed {seed}, reply {number}: {wrong}"
    return counts, None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    start = time.perf_counter()
    counts, wrong = run(args.count, args.seed)
    print(
        json.dumps(
            {
                "replies": sum(counts.values()),
                "seed": args.seed,
                "seconds": round(time.perf_counter() - start, 1),
                "violation": wrong,
                "outcomes": dict(sorted(counts.items())),
            },
            indent=1,
        )
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
