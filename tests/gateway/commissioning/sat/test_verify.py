import re

import pytest

from gateway.commissioning.finding import Finding, Punch
from gateway.commissioning.sat import html, pdf, report, sign
from gateway.commissioning.sat.verify import verify

PDF = (pdf.attached, pdf.render)
RENDER = {"json": report.json_bytes, "html": html.render, "pdf": pdf.render}


@pytest.fixture
def signed(go, run, agent, monkeypatch, clock):
    monkeypatch.setenv("SSH_AUTH_SOCK", agent["socket"])
    go(witness="witness")
    record = report.record_of(run)
    keys = sign.agent_keys(agent["folder"])
    names = ["engineer@example", "witness@example"]
    signatures = [
        sign.sign(record, role=role, name=name, public_key=key, utc_us=clock()).data()
        for role, name, key in zip(("commissioning", "witness"), names, keys, strict=True)
    ]
    return report.assemble(record, language="en", signatures=signatures)


def check(document, agent, **options):
    return verify(document, allowed_signers=agent["allowed"], pdf=PDF, **options)


@pytest.mark.parametrize("kind", sorted(RENDER))
def test_a_signed_report_verifies_in_every_form(signed, agent, kind):
    result = check(RENDER[kind](signed), agent)
    assert result.problems == []
    assert sum("signature of" in line for line in result.checked) == 2
    assert result.report == signed
    assert any("not anchored" in line for line in result.not_checked)


def test_one_changed_digit_anywhere_fails(signed, agent):
    page = html.render(signed)
    text = page.decode()
    places = [m.start() for m in re.finditer(r"\d", text)]
    for place in places[:: len(places) // 40]:
        digit = str((int(text[place]) + 1) % 10)
        changed = (text[:place] + digit + text[place + 1 :]).encode()
        assert not check(changed, agent).ok, text[place - 20 : place + 20]


def test_a_renamed_field_of_a_signature_fails(signed, agent):
    changed = html.render(signed).replace(b'"sha256":"","signature"', b'"sha266":"","signature"')
    assert changed != html.render(signed)
    assert not check(changed, agent).ok


@pytest.mark.parametrize("kind", ["json", "pdf"])
def test_a_changed_byte_of_the_other_forms_fails(signed, agent, kind):
    document = RENDER[kind](signed)
    for place in range(10, len(document), len(document) // 24):
        changed = bytearray(document)
        changed[place] ^= 1
        assert not check(bytes(changed), agent).ok


def test_a_value_changed_and_everything_drawn_again_fails_by_the_signature(signed, agent):
    signed["record"]["checks"][1]["rows"][0]["value"] = "−3.32 kW"
    again = report.assemble(signed["record"], language="en", signatures=signed["signatures"])
    result = check(html.render(again), agent)
    assert [p for p in result.problems if "signature" in p]


def test_a_signature_of_another_person_or_role_fails(signed, agent):
    first, second = signed["signatures"]
    first["name"], second["name"] = second["name"], first["name"]
    assert len(check(html.render(signed), agent).problems) == 2
    first["name"], second["name"] = second["name"], first["name"]
    first["role"] = "owner"
    assert len(check(html.render(signed), agent).problems) == 1


def test_a_key_that_is_not_in_the_verifiers_own_file_fails(signed, agent, tmp_path):
    one = tmp_path / "allowed"
    one.write_text(agent["allowed"].read_text().splitlines()[0] + "\n")
    result = verify(html.render(signed), allowed_signers=one)
    assert ["witness witness@example" in p for p in result.problems] == [True]


def test_without_a_signers_file_nothing_is_said_to_be_signed(signed):
    result = verify(html.render(signed), allowed_signers=None)
    assert result.ok
    assert sum("give --signers" in line for line in result.not_checked) == 2


def test_a_verdict_that_does_not_follow_fails(go, site, run, agent):
    site.planted["3.1"] = Finding(code="x", where="s", what="w", mend="m", punch=Punch.A)
    go(witness="w")
    record = report.record_of(run)
    assert record["verdict"] == "rejected"
    record["verdict"] = "accepted"
    forged = report.assemble(record, language="en")
    assert any("does not follow" in p for p in check(html.render(forged), agent).problems)


ITEM = {
    "number": "B-01", "check": "1.1", "code": "x", "where": "w", "what": "x", "mend": "m",
    "opened_us": 1, "closed_us": -1, "closed_by": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, ""),
        ({"punch": [ITEM]}, "accepted with reservations"),
        ({"witnessed": {}}, "incomplete"),
        ({"skipped": "1.1"}, "accepted with reservations"),
        ({"gone": "4.1"}, "not those of the plan"),
        ({"plan_sha256": "0" * 64}, "plan does not lead"),
    ],
    ids=["as it was", "open B", "no witness", "skipped", "a check left out", "another plan"],
)
def test_accepted_is_recomputed_from_everything_it_rests_on(changes, wrong, go, run, agent):
    go(witness="w")
    record = report.record_of(run) | {"verdict": "accepted"}
    skipped, gone = changes.get("skipped"), changes.get("gone")
    record["checks"] = [
        c | {"status": "skipped"} if c["id"] == skipped else c
        for c in record["checks"]
        if c["id"] != gone
    ]
    record |= {k: v for k, v in changes.items() if k in record}
    found = check(report.json_bytes(report.assemble(record, language="en")), agent)
    if wrong:
        assert any(wrong in p for p in found.problems)
    else:
        assert found.problems == []
        assert any("follows from the checks" in t for t in found.checked)


def test_anchors_are_asked_for(signed, agent):
    good = report.assemble(
        signed["record"],
        language="en",
        signatures=signed["signatures"],
        anchors=[{"where": "elm/SOP-1", "index": 431, "sha256": signed["record_sha256"]}],
    )
    page = html.render(good)
    assert any("give --ledger" in line for line in check(page, agent).not_checked)
    assert check(page, agent, anchored=lambda _: "").problems == []
    assert check(page, agent, anchored=lambda _: "no such entry").problems
    other = good | {"anchors": [good["anchors"][0] | {"sha256": "0" * 64}]}
    assert any("another record" in p for p in check(html.render(other), agent).problems)


@pytest.mark.parametrize(
    "document",
    [b"", b"{}", b"[]", b"<!doctype html>\n", b"%PDF-1.4\n", b"\xff\xfe", b'{"schema":1}'],
)
def test_what_is_no_report_is_told_and_never_raises(document, agent):
    assert not check(document, agent).ok


def test_a_paper_signature_is_marked_and_left_to_people(go, run, tmp_path, agent, clock):
    go(witness="w")
    photo = tmp_path / "page.jpg"
    photo.write_bytes(b"photo")
    paper = sign.paper(role="witness", name="DSO witness", photo=photo, utc_us=clock()).data()
    signed = report.assemble(report.record_of(run), language="en", signatures=[paper])
    result = check(html.render(signed), agent)
    assert result.ok
    assert any("compare the photo" in line for line in result.not_checked)
    assert b"paper signature" in html.render(signed)


def test_an_agent_without_the_key_does_not_sign(go, run, tmp_path, agent, monkeypatch, clock):
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "nobody"))
    go(witness="w")
    public = next(agent["folder"].glob("engineer@example.pub"))
    with pytest.raises(sign.SignError, match="not signed"):
        sign.sign(report.record_of(run), role="owner", name="o", public_key=public, utc_us=clock())
    assert sign.agent_keys(tmp_path) == ()


@pytest.mark.parametrize(
    "plot", ["<svg", "<svg></svg>", "<svg viewBox='0 0 a b'><path d='M'/></svg>"]
)
def test_a_plot_that_cannot_be_drawn_is_a_problem_and_not_a_crash(signed, agent, plot):
    document = RENDER["pdf"](signed)
    signed["record"]["checks"][1]["plot_svg"] = plot
    found = verify(
        document, allowed_signers=agent["allowed"], pdf=(lambda _document: signed, pdf.render)
    )
    assert not found.ok
