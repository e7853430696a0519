"""The Typst source: headings of its language, nothing of the record; compiled where Typst is."""

import json
import re
import zlib

import pytest

from gateway.commissioning.finding import Finding
from gateway.commissioning.sat import report, typ
from gateway.commissioning.sat.words import LANGUAGES, WORDS

HOSTILE = Finding(code="x", where="#eval(1)", what='CT "L2" #panic()[]$x$', mend="\\ ` * _ <a>")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_source_is_the_same_bytes_with_the_words_of_its_language(language):
    source = typ.render(language)
    assert source == typ.render(language)
    text = source.decode()
    assert WORDS[language]["verdict"] in text.splitlines()[0]
    assert text.count("{") == text.count("}")
    assert not re.search(r"https?:|#import|read\(|@preview", text), "nothing is fetched"


def test_every_heading_the_source_asks_for_is_a_word():
    text = typ.render("en").decode()
    asked = set(re.findall(r'\bw\("([a-z-]+)"\)', text))
    listed = re.findall(r'\(((?:"[a-z]*", )*"[a-z]*",?)\)(?:\.map\(w\))', text)
    asked |= {word for group in listed for word in re.findall(r'"([a-z]+)"', group)}
    assert len(asked) > 20
    assert asked <= WORDS["en"].keys()


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_compiles_to_an_archive_pdf_that_carries_the_record(language, go, site, run, tmp_path):
    typst = pytest.importorskip("typst", reason="pip install typst")
    site.planted["2.1"] = HOSTILE
    go(witness="DSO witness")
    made = report.assemble(report.record_of(run), language=language)
    (tmp_path / "report.json").write_bytes(report.json_bytes(made))
    source = tmp_path / "report.typ"
    source.write_bytes(typ.render(language))
    first = typst.compile(source, pdf_standards="a-3a")
    assert first == typst.compile(source, pdf_standards="a-3a"), "the same run, the same bytes"
    assert b"pdfaid" in first
    assert b"/StructTreeRoot" in first
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", first, re.DOTALL)
    texts = []
    for stream in streams:
        try:
            texts.append(zlib.decompress(stream))
        except zlib.error:
            texts.append(stream)
    assert report.json_bytes(made) in texts
    assert json.loads(report.json_bytes(made)) == made
