"""What the drivers ask of a profile by name: without it a device of that kind cannot be driven."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from gateway.config.profile_points import PointAt
from gateway.config.profile_relations import Names
from gateway.config.yaml_reader import Document, Node
from gateway.devices.converter import POINTS_NEEDED
from gateway.devices.meter import EXPORT, IMPORT, POWER
from gateway.devices.opcua.station import points_needed
from gateway.devices.profile import Profile
from gateway.devices.station_reading import STATION_POINTS, TERMINAL_POINTS
from gateway.model.setpoint import Ack, Command, ControlMode
from gateway.model.telemetry import State
from gateway.model.units import DIMENSION_OF

METER_POINTS: Mapping[str, str] = {IMPORT: "energy", EXPORT: "energy", POWER: "power"}
DIMENSIONS: Mapping[str, str] = {
    "dc.v": "voltage",
    "loss": "power",
    "uptime": "time",
    "wdg.remain": "time",
    "t1.p": "power",
    "t1.q": "reactive_power",
    "t1.v": "voltage",
    "t1.s_available": "apparent_power",
    "t1.p_active": "power",
    "t1.p_received": "power",
    "t1.e.inject": "energy",
    "t1.e.absorb": "energy",
    "t1.p_set": "power",
    "t1.q_set": "reactive_power",
}

FAILSAFES: Mapping[str, int] = {"hold": 0, "ramp-zero": 1, "fallback": 2, "block": 3}

CONVERTER_DIMENSIONS: Mapping[str, str] = {
    "p": "power",
    "q": "reactive_power",
    "v": "voltage",
    "dc.v": "voltage",
    "s_available": "apparent_power",
    "e.inject": "energy",
    "e.absorb": "energy",
    "p_set": "power",
    "q_set": "reactive_power",
    "p_set.reversion": "power",
    "q_set.reversion": "reactive_power",
    "p_set.reversion_time": "time",
    "q_set.reversion_time": "time",
}


def meter_points_missing(profile: Profile) -> tuple[str, ...]:
    """Return the points a settling meter must have and this one lacks."""
    there = {point.name for point in profile.points}
    return tuple(name for name in METER_POINTS if name not in there)


def check_drivers(document: Document, names: Names, root: Node) -> None:
    """Note points that the driver of this kind reads by name and cannot find or use."""
    kind = root.get("kind")
    if kind is None:
        return
    if kind.text == "meter":
        missing = [name for name in METER_POINTS if name not in names.plain]
        if missing:
            message = f"a meter without {_list(missing)} cannot settle energy"
            document.warn(
                41,
                message,
                kind,
                help="name the energy registers `e.import` and `e.export`, total power `p`",
            )
        for name, dimension in METER_POINTS.items():
            _dimension(document, names.plain.get(name), dimension)
    elif kind.text == "station":
        opcua = root.word("protocol") == "opcua"
        wanted = [*STATION_POINTS, *(f"t1.{name}" for name in TERMINAL_POINTS)]
        if opcua:
            wanted = list(points_needed())
        missing = [name for name in wanted if name not in names.expanded]
        if missing:
            message = f"the station's driver needs {_list(missing)}"
            document.add(
                56,
                message,
                kind,
                help="see configs/profiles/sop-station-opcua.yaml for the points of a station"
                if opcua
                else "see configs/profiles/sop-station-v1.yaml for the points of a station",
            )
        for name, dimension in DIMENSIONS.items():
            _dimension(document, names.expanded.get(name), dimension)
        if opcua or root.get("command") is not None:
            _fixed(document, names, root)
    elif kind.text == "converter" and "p_set" in names.plain:  # without, it is only looked at
        missing = [name for name in POINTS_NEEDED if name not in names.plain]
        if missing:
            document.warn(
                57,
                f"the converter's driver needs {_list(missing)}",
                kind,
                help="see configs/profiles/sunspec-vsc.yaml for the points of a converter",
            )
        for name, dimension in CONVERTER_DIMENSIONS.items():
            _dimension(document, names.plain.get(name), dimension)


def _fixed(document: Document, names: Names, root: Node) -> None:
    """Note what a profile says otherwise than the drivers of stations have it fixed."""
    sign = root.get("sign")
    for name, _, node in sign.pairs() if sign is not None else ():
        if node.text == "import_positive":
            message = f"the station's driver takes “{name}” into the feeder as positive"
            document.add(58, message, node, help="a station that counts otherwise needs a driver")
    driven = {*STATION_POINTS, *(f"t1.{name}" for name in TERMINAL_POINTS), *names.commanding}
    for name, point in names.expanded.items():
        if (name in driven or point.block == "staged") and (
            factor := point.node.get("scale_point")
        ) is not None:
            message = f"the station's driver reads no factor of “{point.full_name}”"
            document.add(58, message, factor, help="write the factor as `scale:`")
            break
    command = root.get("command")
    codes: dict[str | None, type[enum.IntEnum]] = {
        "state.code": State,
        "t1.state": State,
        "t1.mode_set": ControlMode,
        root.word("command", "code"): Command,
        root.word("command", "echo", "code") if command else "ack.code": Ack,
    }
    fixed: dict[str | None, Mapping[str, int]] = {
        name: {_word(code): int(code) for code in words} for name, words in codes.items()
    }
    failsafe = root.word("command", "watchdog", "failsafe") if command else "wdg.failsafe"
    fixed[failsafe] = FAILSAFES
    for key, dimension in (("timeout", "time"), ("ramp", "ratio_rate")):
        point_name = root.word("command", "watchdog", key) if command else f"wdg.{key}"
        _dimension(document, names.expanded.get(point_name or ""), dimension)
    _dimension(document, names.expanded.get(root.word("command", "ttl") or ""), "time")
    for known, numbers in fixed.items():
        coded = names.expanded.get(known or "")
        table = coded.node.get("enum") if coded is not None else None
        for code, _, word in table.pairs() if table is not None else ():
            wanted = numbers.get(word.text)
            if wanted is not None and code.isdecimal() and int(code) != wanted:
                message = f"the station's driver writes and reads {wanted} for “{word.text}”"
                document.add(58, message, word, help="see configs/profiles/sop-station-v1.yaml")


def _word(code: enum.IntEnum) -> str:
    return code.name.lower().replace("_", "-")


def _dimension(document: Document, point: PointAt | None, wanted: str) -> None:
    if point is None or (point.unit and point.unit not in DIMENSION_OF):
        return
    found = DIMENSION_OF.get(point.unit, "")
    if found != wanted:
        message = (
            f"“{point.full_name}” must be {_article(wanted)}, not {point.unit or 'a bare number'}"
        )
        document.add(
            20, message, point.place("unit"), help=f"give it a unit of {wanted.replace('_', ' ')}"
        )


def _article(dimension: str) -> str:
    word = dimension.replace("_", " ")
    return f"an {word}" if word[0] in "ae" else f"a {word}"


def _list(names: list[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
