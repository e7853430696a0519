"""Sparkplug payloads against another implementation, and hostile ones."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.northbound import sparkplug_payload as payload
from gateway.northbound.sparkplug_payload import Metric

DECODE = """
const { get } = require("sparkplug-payload");
const spb = get("spBv1.0");
const told = spb.decodePayload(Buffer.from(process.argv[1], "hex"));
// It leaves Int64 as the unsigned Long of its bits.
const plain = (k, v) => (v && typeof v.toSigned === "function" ? v.toSigned().toNumber() : v);
process.stdout.write(JSON.stringify(told, plain));
"""
ENCODE = """
const { get } = require("sparkplug-payload");
const spb = get("spBv1.0");
process.stdout.write(Buffer.from(spb.encodePayload(JSON.parse(process.argv[1]))).toString("hex"));
"""
NPM = Path(__file__).parents[3] / ".venv" / "npm" / "node_modules"


@pytest.fixture(scope="module")
def node():
    where = os.environ.get("NODE_PATH") or str(NPM)
    there = any((Path(p) / "sparkplug-payload").exists() for p in where.split(":"))
    if shutil.which("node") is None or not there:
        if os.environ.get("SOPGW_REQUIRE_SERVERS") == "1":
            pytest.fail("sparkplug-payload is not installed, SOPGW_REQUIRE_SERVERS=1 asks for it")
        pytest.skip("sparkplug-payload is not installed")

    def run(program, argument):
        done = subprocess.run(
            ["node", "-e", program, argument],
            capture_output=True,
            check=True,
            env={**os.environ, "NODE_PATH": where},
        )
        return done.stdout.decode()

    return run


def test_another_implementation_reads_what_we_write(node):
    body = payload.write(
        utc_ms=1_767_320_200_000,
        seq=7,
        metrics=[
            Metric(
                datatype_code=payload.INT64, content=-150_200, name="P", alias_number=1, unit="W"
            ),
            Metric(datatype_code=payload.DOUBLE, content=801.2, name="V", alias_number=2, utc_ms=5),
            Metric(datatype_code=payload.BOOLEAN, content=True, name="Anchored", alias_number=3),
            Metric(
                datatype_code=payload.STRING,
                content="EXECUTING",
                name="State",
                alias_number=4,
                stale=True,
            ),
            Metric(datatype_code=payload.INT64, content=None, alias_number=300),
        ],
    )
    told = json.loads(node(DECODE, body.hex()))
    assert (told["timestamp"], told["seq"]) == (1_767_320_200_000, 7)
    power, voltage, anchored, state, unknown = told["metrics"]
    assert (power["name"], power["alias"], power["type"]) == ("P", 1, "Int64")
    assert power["value"] == -150_200
    assert power["properties"]["engUnit"] == {"type": "String", "value": "W"}
    assert (voltage["value"], voltage["timestamp"]) == (801.2, 5)
    assert (anchored["type"], anchored["value"]) == ("Boolean", True)
    assert (state["value"], state["properties"]["Quality"]["value"]) == ("EXECUTING", 500)
    assert (unknown["alias"], unknown["value"]) == (300, None)


def test_we_read_what_another_implementation_writes(node):
    wanted = {
        "timestamp": 1,
        "metrics": [
            {"name": "Node Control/Rebirth", "type": "Boolean", "value": True},
            {"name": "word", "type": "String", "value": "ü"},
            {"name": "half", "type": "Float", "value": 0.5},
        ],
    }
    told = payload.read(bytes.fromhex(node(ENCODE, json.dumps(wanted))))
    assert told["Node Control/Rebirth"] is True
    assert told["word"] == "ü"


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    try:
        payload.read(data)
    except payload.PayloadError:
        return


@given(st.text(max_size=20), st.booleans(), st.integers(0, 255))
def test_reading_returns_what_was_written(name, content, seq):
    metric = Metric(datatype_code=payload.BOOLEAN, content=content, name=name)
    assert payload.read(payload.write(utc_ms=1, seq=seq, metrics=[metric])) == {name: content}


def test_a_flood_is_not_read():
    with pytest.raises(payload.PayloadError, match="too large"):
        payload.read(bytes(payload.PAYLOAD_BYTES_MAX + 1))
