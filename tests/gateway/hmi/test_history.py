from gateway.hmi import history


def test_terminals_come_in_the_order_of_the_configuration(entries):
    assert history.terminals(entries) == ["T1", "T2", "T3", "T4"]
    assert history.terminals([e for e in entries if e["kind"] != "config"]) == [
        "T1",
        "T2",
        "T3",
        "T4",
    ]


def test_set_power_counts_from_the_executed_outcome(entries):
    points = history.power_set(entries, "T2")
    outcomes = [e["utc_us"] for e in entries if e["kind"] == "outcome"]
    assert [p for p in points if p[0] in outcomes] == list(
        zip(outcomes, [-150.0, 0.0, -200.0], strict=True)
    )


def test_set_power_of_the_master_is_the_residual(entries):
    assert [v for _, v in history.power_set(entries, "T1")][2] == 100.0


def test_rejected_instruction_sets_nothing_and_unknown_breaks_the_line(entries):
    for entry in entries:
        if entry["kind"] == "outcome" and entry["intent_index"] > 100:
            entry["outcome"] = "rejected"
    assert {v for _, v in history.power_set(entries, "T3")} == {150.0, None}
    for entry in entries:
        if entry["kind"] == "outcome":
            entry["outcome"] = "unknown"
    assert {v for _, v in history.power_set(entries, "T3")} == {None}


def test_expired_set_power_ends(entries):
    first = next(e for e in entries if e["kind"] == "intent")
    first["ttl_s"] = 100
    points = history.power_set(entries, "T3")
    assert (points[0][0] + 100_000_000, None) == points[1]


def test_measured_power_breaks_at_readings_that_are_not_good(entries):
    points = history.power_measured(entries, "T4")
    assert len(points) == 540
    assert [v for _, v in points].count(None) == 1


def test_dc_voltage_prefers_the_read_backs(entries, truth):
    assert history.dc_voltage(entries) == []
    assert history.dc_voltage(entries, truth)[0] == (truth[0]["utc_us"], truth[0]["v_dc_dv"] / 10)
    entries.append({"kind": "readback", "utc_us": 5, "v_dc_dv": 7_995})
    assert history.dc_voltage(entries, truth) == [(5, 799.5)]


def test_instructions_carry_their_outcome(entries):
    lines = history.instructions(entries)
    assert [i.outcome for i in lines] == ["executed"] * 3
    assert lines[0].setpoints_w[1] == ("T2", -150_000)
    alone = [e for e in entries if e["kind"] != "outcome"]
    assert {i.outcome for i in history.instructions(alone)} == {"none"}


def test_evidence_names_acceptance_plan_and_delivery(entries):
    found = history.evidence(entries, "T-0043", "2026-01-02T02:30Z")
    assert [entries[i]["kind"] for i in found] == ["trade.accepted", "plan", "delivery"]
    assert history.evidence(entries, "no such trade", None) == []


def test_counts_add_up(entries):
    assert sum(n for _, n in history.counts(entries)) == len(entries)
    assert history.counts(entries)[0] == ("reading", 540)


def test_energy_of_the_master_waits_for_a_meter_that_answers_late():
    terminals = [{"id": t} for t in ("T1", "T2", "T3")]
    entries = [{"kind": "config", "config": {"master": "T1", "terminals": terminals}}]
    for second in range(0, 901, 300):
        moved_wh = 10_000 * second // 900
        for terminal, late_us, net_wh in (("T2", 0, moved_wh), ("T3", 300_000, -moved_wh)):
            counters = {"export_wh": 20_000 + net_wh, "import_wh": 8_000_000}
            meter = {"terminal": terminal, "utc_us": second * 1_000_000 + late_us, **counters}
            entries.append({"kind": "reading", "utc_us": meter["utc_us"], "meters": [meter]})
    found = history.energy(entries, "T1", start_us=0, end_us=901_000_000)
    assert [v for _, v in found] == [0, 0, 0, 0]
    found = history.energy(entries, "T2", start_us=0, end_us=901_000_000)
    assert [round(v, 1) for _, v in found] == [0, 3.3, 6.7, 10]


def test_a_command_sets_no_power(entries):
    before = history.power_set(entries, "T1"), history.power_set(entries, "T2")
    for outcome in ("executed", "unknown"):
        at = {"utc_us": entries[-1]["utc_us"]}
        intent = {"kind": "intent", "index": len(entries), "setpoints": [], "ttl_s": 0,
                  "command": "EXIT_STANDBY", "authority": "plan", **at}  # fmt: skip
        ended = {"kind": "outcome", "intent_index": len(entries), "outcome": outcome, **at}
        entries += [intent, {**ended, "index": len(entries) + 1}]
    assert (history.power_set(entries, "T1"), history.power_set(entries, "T2")) == before
