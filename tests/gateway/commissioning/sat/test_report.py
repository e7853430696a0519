import copy
import re

import pytest

from gateway.commissioning.finding import Finding
from gateway.commissioning.sat import html, pdf, report
from gateway.commissioning.sat.words import LANGUAGES, WORDS

REVERSED = Finding(
    code="ct-reversed", where="m2 L2", what="CT <L2> is reversed", mend="swap & test"
)


@pytest.fixture
def drawn(go, site, run):
    site.planted["2.1"] = REVERSED
    go(witness="DSO witness")
    return report.assemble(report.record_of(run), language="en")


def languages():
    for language in LANGUAGES:
        marks = []
        if language == "zh" and not pdf.CJK_FONT.is_file():
            marks = [pytest.mark.skip(reason="fonts-wqy-zenhei is not installed")]
        yield pytest.param(language, marks=marks)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_the_same_bytes_and_carries_its_data(drawn, language):
    drawn["language"] = language
    page = html.render(drawn)
    assert page == html.render(copy.deepcopy(drawn))
    assert html.embedded(page) == drawn
    text = page.decode()
    assert f'lang="{language}"' in text
    assert WORDS[language]["rejected"] in text
    assert "CT &lt;L2&gt; is reversed" in text, "what was recorded is shown, never run"
    assert "<L2>" not in text
    plain = text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(src|href)=|http", plain), "nothing is fetched"


@pytest.mark.parametrize("language", list(languages()))
def test_the_pdf_is_the_same_bytes_and_carries_its_data(drawn, language):
    drawn["language"] = language
    document = pdf.render(drawn)
    assert document == pdf.render(copy.deepcopy(drawn))
    assert pdf.attached(document) == drawn
    assert document.startswith(b"%PDF-")


def test_plots_are_drawn_in_both_forms(drawn):
    assert html.render(drawn).count(b"<svg ") == 1
    with_plot = pdf.render(drawn)
    for check in drawn["record"]["checks"]:
        check["plot_svg"] = ""
    assert len(with_plot) > len(pdf.render(drawn)) + 300


def test_a_pdf_without_a_report_is_told():
    with pytest.raises(ValueError, match="carries no report"):
        pdf.attached(b"%PDF-1.4\n%%EOF\n")


def test_the_record_is_complete(drawn, run):
    record = drawn["record"]
    assert record["verdict"] == "rejected"
    assert [c["status"] for c in record["checks"]] == ["ok", "fault", "ok", "ok", "ok"]
    assert record["punch"][0]["number"] == "B-01"
    assert record["events"] == len(run.events)
    assert report.check_of(drawn, "2.1")["attempts"] == 1
    with pytest.raises(KeyError):
        report.check_of(drawn, "9.9")


def test_the_statement_names_run_verdict_role_and_digest(drawn):
    text = report.statement(drawn["record"], role="owner", name="o@example", utc_us=0).decode()
    assert "verdict rejected\n" in text
    assert "role owner\n" in text
    assert drawn["record_sha256"] in text
    changed = copy.deepcopy(drawn["record"])
    changed["checks"][0]["rows"][0]["value"] = "−3.32 kW"
    assert report.statement(changed, role="owner", name="o@example", utc_us=0).decode() != text


def test_every_heading_exists_in_every_language():
    keys = {frozenset(WORDS[language]) for language in LANGUAGES}
    assert len(keys) == 1
    assert all(WORDS[language][key] for language in LANGUAGES for key in WORDS["en"])


def test_instants_are_utc_to_the_second():
    assert report.utc_text(1_764_000_000_123_456) == "2025-11-24 16:00:00Z"
    assert report.utc_text(-1) == "–"
