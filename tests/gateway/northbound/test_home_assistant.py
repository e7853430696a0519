"""Home Assistant's discovery document."""

import json

from gateway.northbound.home_assistant import discovery, discovery_topic
from gateway.northbound.mqtt_publisher import as_json
from gateway.northbound.values import values_of


def document(view):
    return json.loads(
        discovery(
            values_of(view),
            site="bench4",
            sop="SOP-1",
            version="0.1.0",
            state_topic="sopgw/v1/bench4/SOP-1/values",
            availability_topic="sopgw/v1/bench4/SOP-1/values/availability",
        )
    )


def test_nothing_in_it_takes_an_order(view):
    told = document(view)
    assert "command" not in json.dumps(told)
    assert {c["p"] for c in told["cmps"].values()} == {"sensor", "binary_sensor"}


def test_every_sensor_finds_its_value_and_has_an_id_of_its_own(view):
    told, body = document(view), json.loads(as_json(view))
    assert len({c["unique_id"] for c in told["cmps"].values()}) == len(values_of(view))
    for value in values_of(view):
        templates = [c["value_template"] for c in told["cmps"].values()]
        assert sum(f"value_json['{value.name}']" in t for t in templates) == 1
        assert value.name in body


def test_counters_are_totals_and_powers_are_measurements(view):
    told = document(view)["cmps"]
    energy = told["terminals_t2_meter_importenergy"]
    assert (energy["device_class"], energy["state_class"]) == ("energy", "total_increasing")
    power = told["terminals_t2_activepower"]
    assert (power["device_class"], power["unit_of_measurement"]) == ("power", "W")
    assert power["state_class"] == "measurement"


def test_what_is_old_is_unknown_and_a_counter_stays(view):
    told = document(view)["cmps"]
    for value in values_of(view):
        (template,) = (
            c["value_template"]
            for c in told.values()
            if f"value_json['{value.name}']" in c["value_template"]
        )
        looks = f"if '{value.name}' not in value_json['stale'] else" in template
        assert looks is not value.counter, value.name
    # Rendered by Jinja 3.1: 150000, and None, which Home Assistant takes for unknown.
    assert told["terminals_t2_activepower"]["value_template"] == (
        "{{ value_json['Terminals/T2/ActivePower']"
        " if 'Terminals/T2/ActivePower' not in value_json['stale'] else None }}"
    )
    assert told["ledger_anchored"]["value_template"] == (
        "{{ ('ON' if value_json['Ledger/Anchored'] else 'OFF')"
        " if 'Ledger/Anchored' not in value_json['stale'] else None }}"
    )


def test_the_topic_is_one_a_device():
    assert discovery_topic(site="Elm St.", sop="SOP-1") == (
        "homeassistant/device/sopgw_elm_st_sop_1/config"
    )
