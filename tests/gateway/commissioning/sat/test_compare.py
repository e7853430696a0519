import copy

import pytest

from gateway.commissioning.finding import Finding
from gateway.commissioning.sat import report
from gateway.commissioning.sat.compare import change_pct, compare


@pytest.fixture
def bench_and_site(go, site, run):
    go(witness="w")
    bench = report.assemble(report.record_of(run), language="en")
    site.planted["2.1"] = Finding(code="x", where="m", what="w", mend="m")
    site.value = "−3.64 kW"
    go(start_at="2.1", witness="w")
    return bench, report.assemble(report.record_of(run), language="en")


def test_what_passed_on_the_bench_and_not_on_site_is_worse(bench_and_site):
    result = compare(*bench_and_site)
    assert result.compared_count == 5
    assert result.worse
    status = next(d for d in result.differences if not d.name)
    assert (status.check, status.first_text, status.second_text) == ("2.1", "ok", "fault")
    value = next(d for d in result.differences if d.name == "power")
    assert value.change_pct == pytest.approx(-9.97, abs=0.01)


def test_a_report_is_like_itself(bench_and_site):
    result = compare(bench_and_site[0], copy.deepcopy(bench_and_site[0]))
    assert (result.differences, result.not_comparable, result.worse) == ((), (), False)


def test_other_plans_and_missing_checks_are_said(bench_and_site):
    bench, site_report = bench_and_site
    site_report["record"]["plan"]["revision"] = 4
    gone = site_report["record"]["checks"].pop()
    result = compare(bench, site_report)
    assert result.not_comparable == (
        "revision: 3 against 4",
        f"check {gone['id']} is only in the first",
    )
    (missing,) = [d for d in result.differences if d.second_text == "missing"]
    assert (missing.check, missing.worse) == (gone["id"], True)


def test_what_passed_on_the_bench_and_was_skipped_on_site_is_worse(go, run):
    go(witness="w")
    bench = report.assemble(report.record_of(run), language="en")
    run.skip("2.2", reason="no time", by="e")
    result = compare(bench, report.assemble(report.record_of(run), language="en"))
    assert result.worse
    back = compare(report.assemble(report.record_of(run), language="en"), bench)
    assert not back.worse


def test_other_content_under_the_same_id_and_revision_is_said(bench_and_site):
    bench = bench_and_site[0]
    other = copy.deepcopy(bench)
    other["record"]["plan"]["steps"][0]["checks"][0]["arguments"] = ["--for", "1s"]
    assert compare(bench, other).not_comparable == (
        "plan: the same id and revision, other content: 1.1",
    )


def test_change_needs_two_numbers_in_one_unit():
    assert change_pct("10 kW", "12 kW") == pytest.approx(20)
    assert change_pct("10 kW", "12 W") is None
    assert change_pct("0 kW", "12 kW") is None
    assert change_pct("open", "closed") is None
