"""The discovery document of Home Assistant: sensors only, no topic that takes an order.

Source: Home Assistant, MQTT device discovery (``homeassistant/device/<id>/config``). Home Assistant
retains what it publishes to command topics, so a gateway that had one would hear old orders again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from gateway.northbound.values import Value

DEVICE_CLASSES = {
    "W": "power",
    "var": "reactive_power",
    "VA": "apparent_power",
    "V": "voltage",
    "Wh": "energy",
}
_OTHER = re.compile(r"[^a-z0-9]+")


def discovery_topic(*, site: str, sop: str, prefix: str = "homeassistant") -> str:
    """Where the document is published, retained."""
    return f"{prefix}/device/{device_id(site=site, sop=sop)}/config"


def device_id(*, site: str, sop: str) -> str:
    """The device's id in Home Assistant."""
    return f"sopgw_{_word(site)}_{_word(sop)}"


def discovery(
    values: Sequence[Value],
    *,
    site: str,
    sop: str,
    version: str,
    state_topic: str,
    availability_topic: str,
) -> bytes:
    """Return the document that makes every value a sensor of one device."""
    device = device_id(site=site, sop=sop)
    components: dict[str, dict[str, Any]] = {}
    for value in values:
        key = _word(value.name)
        binary = value.kind is bool
        component: dict[str, Any] = {
            "p": "binary_sensor" if binary else "sensor",
            "unique_id": f"{device}_{key}",
            "name": " ".join(value.path),
            "value_template": _template(value),
        }
        if value.unit:
            component["device_class"] = DEVICE_CLASSES[value.unit]
            component["unit_of_measurement"] = value.unit
        if value.kind in (int, float):
            component["state_class"] = "total_increasing" if value.counter else "measurement"
        components[key] = component
    body = {
        "dev": {
            "ids": [device],
            "name": f"{site} {sop}",
            "mdl": "soft open point",
            "sw": version,
        },
        "o": {"name": "sop-gateway", "sw": version},
        "cmps": components,
        "state_topic": state_topic,
        "availability_topic": availability_topic,
        "qos": 1,
    }
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _template(value: Value) -> str:
    """Read a value out of the state; None, which is unknown there, where it is not of now.

    A counter stays what it was: the energy of a silent device did not go away.
    """
    told = f"value_json[{value.name!r}]"
    if value.kind is bool:
        told = f"('ON' if {told} else 'OFF')"
    if not value.counter:
        told += f" if {value.name!r} not in value_json['stale'] else None"
    return "{{ " + told + " }}"


def _word(text: str) -> str:
    return _OTHER.sub("_", text.lower()).strip("_")
