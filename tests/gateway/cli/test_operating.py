"""The operator's commands against a running service, then against its ledger alone."""

import json
import os

import pytest
from fakes.served import entries, serving, status, until

from gateway.cli.access import text_of

ME = f"uid:{os.getuid()}"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    roles = f"access: {{viewers: [group:sopgw], engineers: ['{ME}', user:ann]}}\n"
    with serving(tmp_path_factory.mktemp("ash"), factor=10, extra=roles) as found:
        yield found


@pytest.fixture
def service(served, monkeypatch):
    for name in ("SOPGW_CONFIG", "SOPGW_TIMEBASE"):
        monkeypatch.setenv(name, served.env[name])
    return served


def test_status_in_words_and_as_one_object(service, sopgw):
    until(lambda: status(sopgw)["terminals"])
    found = status(sopgw)
    assert (found["mode"], found["simulated"], found["broker_online"]) == ("test", True, False)
    text = sopgw("status").out
    for word in (
        "SOP-1",
        "mode test",
        "Control  trade scheduler",
        "T2",
        "NOT ANCHORED",
        "SIMULATED",
    ):
        assert word in text, word
    assert "-0.0" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_status_watched_is_plain_text_again_and_again(service, sopgw):
    out = sopgw("status", "--watch", "--every", "100ms", "--count", "3").out
    assert out.count("Control  trade scheduler") == 3
    assert "\x1b" not in out


def test_trades_are_watched_as_long_as_one_likes(service, sopgw):
    watched = ("trade", "watch", "--every", "50ms", "--count", "2")
    assert sopgw(*watched, "--json").json["data"] == {"changes": []}
    assert "no trade of these hours" in sopgw(*watched).out


def test_everybody_is_told_who_he_is_and_what_he_may(service, sopgw):
    found = sopgw("whoami", "--json").json["data"]
    assert (found["user"], found["roles"]) == (ME, ["engineer"])
    assert {"stop", "arm", "borrow", "access"} <= set(found["may"])
    assert set(found["may"]) & set(found["may_not"]) == set()
    assert found["control"]["holder"] == "trades"
    assert "Control  trade scheduler" in sopgw("whoami").out


def test_who_has_which_role_is_shown(service, sopgw):
    found = sopgw("access", "--json").json["data"]
    roles = {row["role"]: row for row in found["roles"]}
    assert roles["engineer"]["members"] == sorted([ME, "user:ann"])
    assert roles["viewer"]["members"] == ["group:sopgw"]
    assert "stop" in roles["viewer"]["may"]
    assert not {"arm", "borrow"} & set(roles["viewer"]["may"])
    assert found["owner_only"] is False
    assert "user:ann" in sopgw("access").out
    assert "owner alone" in text_of([{"role": "viewer", "members": [], "may": ["stop"]}])


def test_the_mode_is_shown_and_set_with_consent(service, sopgw):
    assert sopgw("mode", "show", "--json").json["data"]["mode"] == "test"
    unset = sopgw("mode", "set", "blocked", "--json")
    plan = unset.json["data"]["plan"]
    assert (unset.exit_code, plan["level"]) == (6, "moderate")
    assert "nothing written" in plan["lines"][0]
    assert sopgw("mode", "set", "on", "--yes", "--json").exit_code == 6, "on needs the name"
    assert sopgw("mode", "set", "on", "--confirm", "SOP-2", "--json").exit_code == 6
    assert sopgw("mode", "set", "blocked", "--yes", "--json").json["data"] == {"mode": "blocked"}
    assert sopgw("apply", plan["id"], "--json").exit_code == 0, "a plan of the same mode holds"
    assert sopgw("mode", "set", "test", "--yes", "--json").exit_code == 0


def test_a_stop_is_answered_and_arming_needs_the_name(service, sopgw):
    assert sopgw("stop", "--json").json["data"]["way"] == "gateway"
    until(lambda: "A-104" in status(sopgw)["alarms"])
    shown = sopgw("arm", "--json")
    assert (shown.exit_code, shown.json["data"]["plan"]["level"]) == (6, "severe")
    assert sopgw("arm", "--yes", "--json").exit_code == 6, "arming needs the name"
    assert sopgw("arm", "--confirm", "SOP-9", "--json").exit_code == 6
    assert status(sopgw)["armed"] is False
    assert sopgw("arm", "--confirm", "SOP-1", "--json").json["data"]["armed"] is True
    until(lambda: "A-104" not in status(sopgw)["alarms"])


def test_an_alarm_from_coming_to_the_shelf_and_back(service, sopgw):
    until(lambda: "A-122" in status(sopgw)["alarms"])
    rows = sopgw("alarm", "ls", "--json").json["data"]
    (row,) = [r for r in rows["alarms"] if r["code"] == "A-122"]
    assert (rows["source"], row["acknowledged"]) == ("gateway", False)
    assert "NOT acknowledged" in sopgw("alarm", "ls").out
    assert sopgw("alarm", "ack", "A-122", "--json").exit_code == 0
    assert sopgw("alarm", "shelve", "A-122", "--for", "1h", "--why", "no broker here",
                 "--json").exit_code == 0  # fmt: skip
    assert "shelved until" in sopgw("alarm", "ls").out
    (row,) = [a for a in status(sopgw)["alarm_rows"] if a["code"] == "A-122"]
    assert (row["shelved_by"], row["shelved_why"]) == (ME, "no broker here")
    assert sopgw("alarm", "unshelve", "A-122", "--json").exit_code == 0
    said = [(e["verb"], e["reason"]) for e in entries(service, "operator")]
    assert ("shelve", "no broker here") in said


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("ack", "A-101"), 5),
        (("ack", "A-999"), 5),
        (("shelve", "A-122", "--for", "25h", "--why", "x"), 5),
        (("shelve", "A-122", "--for", "1h", "--why", " "), 5),
        (("shelve", "A-122", "--for", "1", "--why", "x"), 2),
        (("shelve", "A-122", "--why", "x"), 2),
        (("explain", "A-999"), 2),
    ],
)
def test_what_does_not_count_is_refused_with_a_mend(service, sopgw, arguments, code):
    answer = sopgw("alarm", *arguments, "--json")
    assert answer.exit_code == code
    assert answer.json["errors"][0]["help"]


def test_the_alarm_list_explains_itself(service, sopgw):
    (row,) = sopgw("alarm", "explain", "a-121", "--json").json["data"]["alarms"]
    assert row["consequence"]
    assert "response" in sopgw("alarm", "explain", "A-121").out
    assert len(sopgw("alarm", "explain", "--json").json["data"]["alarms"]) >= 16


def test_limits_are_shown_and_proposed_and_not_confirmed_by_the_same(service, sopgw):
    assert sopgw("limits", "show", "--json").json["data"]["limits"][1]["p_w_max"] == 230_000
    made = sopgw("limits", "set", "T2", "--p-max", "100kW", "--why", "cable works", "--json")
    assert made.exit_code == 6
    assert "waits" in sopgw("limits", "show").out
    own = sopgw("limits", "confirm", made.json["data"]["id"], "--json")
    assert own.exit_code == 5
    assert "second engineer" in own.json["errors"][0]["message"]
    assert sopgw("limits", "set", "T9", "--p-max", "1kW", "--why", "x", "--json").exit_code == 2
    assert sopgw("limits", "set", "T2", "--p-max", "999kW", "--why", "x", "--json").exit_code == 5
    assert sopgw("limits", "set", "T2", "--why", "x", "--json").exit_code == 2


def test_a_refusal_is_an_entry(service, sopgw):
    sopgw("alarm", "ack", "A-101", "--json")
    refused = [e for e in entries(service, "operator") if e["verb"] == "refused"]
    assert refused[-1]["arguments"] == {"verb": "ack", "cause": "inconsistent-parameters"}
    assert refused[-1]["user"] == ME


def test_instructions_are_listed_and_traced(service, sopgw):
    until(lambda: entries(service, "outcome"))
    rows = sopgw("instr", "ls", "--json").json["data"]["instructions"]
    assert rows[0]["command"] == "CONFIGURE"
    traced = sopgw("instr", "trace", str(rows[0]["index"]), "--json").json["data"]
    assert [e["kind"] for e in traced["entries"]] == ["intent", "outcome"]
    assert "executed" in sopgw("instr", "trace", f"{rows[0]['instr_id']:#x}").out
    assert sopgw("instr", "show", str(rows[0]["index"]), "--json").exit_code == 0
    assert sopgw("instr", "show", "0x1", "--json").exit_code == 1
    assert sopgw("instr", "trace", "soon", "--json").exit_code == 2


def test_what_the_ledger_does_not_know_is_said(service, sopgw):
    answer = sopgw("trade", "explain", "trd-1", "--json")
    assert answer.exit_code == 1
    assert answer.json["errors"][0]["code"] == "T105"


def test_without_the_service_the_ledger_answers_and_orders_are_unreachable(
    service, sopgw, schema_differences, schema_of
):
    service.process_of_gateway.terminate()
    service.process_of_gateway.wait(timeout=30)
    answer = json.loads((service.folder / "gateway.out").read_text())
    assert (answer["schema"], answer["exit_code"]) == ("sopgw/v1/run", 0)
    assert schema_differences(schema_of("run"), answer["data"]) == []
    offline = sopgw("alarm", "ls", "--json").json
    assert offline["data"]["source"] == "ledger"
    assert offline["warnings"][0]["code"] == "G007"
    assert sopgw("alarm", "ls", "--offline", "--json").json["data"]["alarms"]
    stats = sopgw("alarm", "stats", "--json").json["data"]
    assert stats["raised_count"] >= 2
    assert "aim" in sopgw("alarm", "stats").out
    for command in (("status",), ("whoami",), ("access",), ("trade", "watch"), ("mode", "show"), ("arm",), ("limits", "show"),
                    ("alarm", "ack", "A-104"), ("point", "set", "T2", "p=1kW", "--yes")):  # fmt: skip
        answer = sopgw(*command, "--json")
        assert answer.exit_code == 4, command
        assert "sopgw run" in answer.json["errors"][0]["help"]
