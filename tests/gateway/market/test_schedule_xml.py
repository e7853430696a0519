"""The standard's XML: valid under our schema, exact in content, and refused where it cannot be."""

import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from decimal import Decimal
from pathlib import Path

import pytest
from signed_trades import CREATED_MS, START_MS, trade

from gateway.market import schedule_document, schedule_xml, xml_schema
from gateway.market.schedule_document import read, write
from gateway.market.xml_schema import Schema, SchemaError

NS = {"d": schedule_xml.NAMESPACE}


def document(**changes):
    one = trade(**changes)
    body = write(one, site="bench4", created_utc_ms=CREATED_MS, price=Decimal("408.5"), currency="CNY",
                 buyer="U3", seller="W1")  # fmt: skip
    found = read(body)
    assert isinstance(found, schedule_document.Document)
    return found


XML = schedule_xml.write(document(p_w=(120_500, 4)))


def test_a_document_becomes_valid_xml_with_the_same_content():
    assert schedule_xml.schema().faults(XML) == []
    root = ET.fromstring(XML)
    series = root.find("d:TimeSeries", NS)
    assert series.find("d:in_Domain.mRID", NS).text == "region-a"
    assert series.find("d:out_Domain.mRID", NS).get("codingScheme") == "A01"
    assert root.find("d:createdDateTime", NS).text == "2026-01-02T01:49:03Z"
    points = series.findall("d:Period/d:Point", NS)
    assert [p.find("d:quantity", NS).text for p in points] == ["120.5", "0.004"]
    assert series.find("d:Period/d:resolution", NS).text == "PT15M"


def test_price_and_extension_stay_out():
    assert b"price" not in XML
    assert b"currency" not in XML


@pytest.mark.parametrize("seconds", [0, 59])
def test_the_time_of_creation_has_seconds(seconds):
    body = write(trade(), site="bench4", created_utc_ms=START_MS + seconds * 1000)
    xml = schedule_xml.write(read(body))
    assert b"<createdDateTime>2026-01-02T02:00:%02dZ<" % seconds in xml


def test_what_the_standard_cannot_carry_is_named_and_not_cut():
    faults = schedule_xml.write(document(buyer="a-region-with-a-long-name", revision=1000))
    assert [f.split(": ")[0] for f in faults] == [
        "/Schedule_MarketDocument/revisionNumber[1]",
        "/Schedule_MarketDocument/TimeSeries[1]/version[1]",
        "/Schedule_MarketDocument/TimeSeries[1]/in_Domain.mRID[1]",
    ]


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        (b"<type>A01</type>", b"<type>A99</type>", "/type[1]"),
        (b"<type>A01</type>", b"", "/type: missing"),
        (b"<type>A01</type>", b"<type>A01</type><type>A01</type>", "/type: 2 times"),
        (b"<position>1<", b"<position>0<", "position[1]"),
        (b"<position>1<", b"<position>1.0<", "position[1]"),
        (b"<quantity>120.5<", b"<quantity>-1<", "quantity[1]"),
        (b"<quantity>120.5<", b"<quantity>1.0001<", "quantity[1]"),
        (b"<quantity>120.5<", b"<quantity>1e3<", "quantity[1]"),
        (b"<quantity>120.5<", b"<quantity><b/>1<", "quantity[1]"),
        (b"02:00Z</start>", b"02:00</start>", "start[1]"),
        (b' codingScheme="A01">bench4', b">bench4", "@codingScheme: missing"),
        (b' codingScheme="A01">bench4', b' codingScheme="zz">bench4', "@codingScheme"),
        (b"<type>", b'<type x="1">', "@x: not in the schema"),
        (b"</TimeSeries>", b"<extra/></TimeSeries>", "extra: not expected"),
        (b"</TimeSeries>", b"stray</TimeSeries>", "stray" if False else "text between"),
        (b"<?xml", b"<!DOCTYPE a><?xml", "document type"),
        (b"</Schedule_MarketDocument>", b"", "not XML"),
        (b"Schedule_MarketDocument", b"Other", "not the root"),
    ],
)
def test_every_violation_is_found(before, after, place):
    changed = XML.replace(before, after)
    assert changed != XML
    faults = schedule_xml.schema().faults(changed)
    assert any(place in f for f in faults), faults


@pytest.mark.parametrize(
    "inside",
    [
        '<xs:group name="x"/>',
        '<xs:complexType name="x"><xs:choice/></xs:complexType>',
        '<xs:complexType name="x"><xs:sequence><xs:any/></xs:sequence></xs:complexType>',
        '<xs:simpleType name="x"><xs:list itemType="xs:string"/></xs:simpleType>',
        '<xs:simpleType name="x"><xs:restriction base="xs:date"/></xs:simpleType>',
        '<xs:simpleType name="x"><xs:restriction base="xs:string"><xs:whiteSpace value="x"/>'
        "</xs:restriction></xs:simpleType>",
        '<xs:complexType name="x"><xs:simpleContent><xs:extension base="y"><xs:attribute name="a"'
        ' type="b"/></xs:extension></xs:simpleContent></xs:complexType>',
    ],
)
def test_a_schema_that_is_not_understood_is_refused(inside):
    head = '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:x">'
    with pytest.raises(SchemaError):
        Schema(f"{head}{inside}</xs:schema>")


def test_xmllint_agrees(tmp_path):
    if shutil.which("xmllint") is None:
        if (
            os.environ.get("SOPGW_REQUIRE_SERVERS") == "1"
            and os.environ.get("SOPGW_XMLLINT") == "1"
        ):
            pytest.fail("xmllint is not installed")
        pytest.skip("xmllint is not installed")
    path = Path(xml_schema.HERE) / schedule_xml.SCHEMA_FILE
    for name, xml, code in (("good", XML, 0), ("bad", XML.replace(b"PT15M", b"PT30M"), 3)):
        (tmp_path / name).write_bytes(xml)
        done = subprocess.run(
            ["xmllint", "--nonet", "--noout", "--schema", path, tmp_path / name],
            capture_output=True,
            check=False,
        )
        assert done.returncode == code, done.stderr


@pytest.mark.parametrize("name", ["utf-8inf", "rot13", "utf-7", "\u00e9"])
def test_an_encoding_nobody_has_is_a_fault(name):
    document = XML.replace(b"utf-8", name.encode(), 1)
    assert document != XML
    (fault,) = schedule_xml.schema().faults(document)
    assert fault.startswith("/: not XML")
