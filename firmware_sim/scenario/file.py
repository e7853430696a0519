"""Reads a scenario file; every mistake at once, each with file, line and column."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from firmware_sim.control import ON_STATION
from firmware_sim.device_file import device_from
from firmware_sim.orders import SETTINGS, read_order
from firmware_sim.plant.converter import Mode
from firmware_sim.plant.firmware import Failsafe, Order
from firmware_sim.plant.ratings import SPECS, DeviceSpec
from firmware_sim.scenario.model import Action, Expectation, Scenario, SetPower
from firmware_sim.yamlfile import Reader

ROOT_KEYS = (
    "version", "name", "device", "seed", "model", "step", "sample", "duration", "start", "master",
    "bias", "noise", "heartbeat", "watchdog", "failsafe", "grid", "grid_step", "profile",
    "day_start", "timeline", "expect", "station", "meters",
)  # fmt: skip
ACTION_KEYS = (
    "at", "every", "until", "operate", "q", "modes", "ramp", "ttl", "command", "master", "inject",
    "for", "with", "link",
)  # fmt: skip
EXPECT_KEYS = ("at", "from", "to", "point", "is", "within", "min", "max", "equals")
GRIDS = ("ieee33-4t", "four-feeders", "cigre-lv")
# Kind of quantity by point; a terminal's points follow its name.
TERMINAL_POINTS = {
    "p": "power", "q": "reactive", "set": "power", "v": "voltage", "energy": "energy",
    "metered": "energy",
    "state": "", "mode": "",
}  # fmt: skip
STATION_POINTS = {
    "dc.v": "voltage", "dc.v_min": "voltage", "dc.v_max": "voltage", "loss": "power",
    "balance": "energy", "grid.loss": "power", "grid.v_min": "ratio", "state": "", "master": "",
    "failsafe": "", "ack": "",
}  # fmt: skip
_RANDOM = re.compile(r"random\s+(.+)")


def read_scenario(path: Path) -> Scenario:
    """Read one scenario; raises FileMistakesError with every mistake."""
    reader = Reader(path)
    root = reader.mapping(CommentedMap(), "file", reader.root)
    reader.known(root, ROOT_KEYS)
    if root.get("version") != 1:
        reader.complain(root, "version", "version: 1 is the only one")
    spec = _device(reader, root)
    names = [f"T{k + 1}" for k in range(len(spec.terminals))]
    duration_s = reader.quantity(root, "duration", "time", low=0.001)
    actions = _actions(reader, root, names)
    expectations = _expectations(reader, root, names, duration_s)
    station = _address(reader, root, "station") if "station" in root else None
    meters = reader.mapping(root, "meters", root.get("meters", CommentedMap()))
    reader.known(meters, names)
    addresses = {names.index(n): _address(reader, meters, n) for n in meters if n in names}
    dynamic = reader.word(root, "model", ("quasi-static", "dynamic"), "quasi-static") == "dynamic"
    default_step_s = 0.001 if dynamic else 0.1
    scenario = Scenario(
        name=reader.text(root, "name", path.stem),
        path=path,
        spec=spec,
        duration_s=duration_s,
        actions=actions,
        expectations=expectations,
        seed=reader.integer(root, "seed", default=1, low=0, high=2**63),
        step_us=round(
            1e6 * reader.quantity(root, "step", "time", default=default_step_s, low=1e-3, high=60.0)
        ),
        dynamic=dynamic,
        sample_s=reader.quantity(root, "sample", "time", default=1.0, low=1e-3),
        state=reader.word(root, "start", ("off", "stopped", "standby", "run"), "standby"),
        master_index=names.index(reader.word(root, "master", names, "T1")),
        bias_ratio=reader.quantity(root, "bias", "ratio", default=0.01, low=0.0, high=0.1),
        noise_ratio=reader.quantity(root, "noise", "ratio", default=0.002, low=0.0, high=0.1),
        heartbeat_s=reader.quantity(root, "heartbeat", "time", default=1.0, low=0.0),
        watchdog_ds=round(
            10 * reader.quantity(root, "watchdog", "time", default=5.0, low=1.0, high=60.0)
        ),
        failsafe_code=Failsafe[
            reader.word(root, "failsafe", [f.name.lower() for f in Failsafe], "ramp_zero").upper()
        ],
        grid=reader.word(root, "grid", GRIDS) if "grid" in root else None,
        grid_step_s=reader.quantity(root, "grid_step", "time", default=1.0, low=1e-3),
        profile=reader.text(root, "profile", "built-in"),
        day_start_s=reader.quantity(root, "day_start", "time", default=0.0, low=0.0),
        station_address=station,
        meter_address={k: a for k, a in addresses.items() if a is not None},
    )
    reader.finish()
    return scenario


def _device(reader: Reader, root: CommentedMap) -> DeviceSpec:
    device = root.get("device")
    if isinstance(device, CommentedMap):
        return device_from(reader, device, name="scenario")
    return SPECS[reader.word(root, "device", SPECS, "lv4x250")]


def _address(reader: Reader, parent: CommentedMap, key: str) -> tuple[str, int] | None:
    address = reader.text(parent, key)
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        reader.complain(parent, key, f"{key}: {address!r} is not HOST:PORT")
        return None
    return host, int(port)


def _actions(reader: Reader, root: CommentedMap, names: list[str]) -> tuple[Action, ...]:
    found = []
    items = reader.sequence(root, "timeline")
    for index, item in enumerate(items):
        entry = reader.mapping(items, index, item)
        reader.known(entry, ACTION_KEYS)
        kinds = [k for k in ("operate", "command", "inject", "link") if k in entry]
        if len(kinds) != 1:
            reader.complain(items, index, "exactly one of operate, command, inject, link")
            continue
        found.append(_action(reader, entry, kinds[0], names, _line(items, index)))
    return tuple(sorted(found, key=lambda a: a.at_s))


def _line(items: CommentedSeq, index: int) -> int:
    return int(items.lc.item(index)[0]) + 1


def _action(reader: Reader, entry: CommentedMap, kind: str, names: list[str], line: int) -> Action:
    word, settings = "", _settings(reader, entry)
    if kind == "command":
        word = reader.word(entry, "command", [o.name.lower() for o in Order])
        if word == "set_master":
            settings["terminal"] = 1 + names.index(reader.word(entry, "master", names))
    elif kind == "inject":
        word = reader.word(entry, "inject", (*ON_STATION, "clear"))
        _judge_order(reader, entry, word, settings, len(names))
    elif kind == "link":
        word = reader.word(entry, "link", ("cut", "restored"))
    return Action(
        at_s=reader.quantity(entry, "at", "time", low=0.0),
        kind=kind,
        line_number=line,
        every_s=reader.quantity(entry, "every", "time", low=0.001) if "every" in entry else None,
        until_s=reader.quantity(entry, "until", "time") if "until" in entry else None,
        power_by_index=_powers(reader, entry, names) if kind == "operate" else {},
        mode_by_index=_modes(reader, entry, names),
        reactive_var=_by_terminal(reader, entry, "q", "reactive", names),
        ramp_permille_per_s=round(
            1000 * reader.quantity(entry, "ramp", "ratio", default=0.2, low=0.001, high=1.0)
        ),
        ttl_s=round(reader.quantity(entry, "ttl", "time", default=900.0, low=1.0, high=65535.0)),
        word=word,
        for_s=reader.quantity(entry, "for", "time") if "for" in entry else None,
        settings=settings,
    )


def _settings(reader: Reader, entry: CommentedMap) -> dict[str, Any]:
    if "with" not in entry:
        return {}
    return {str(k): v for k, v in reader.mapping(entry, "with", entry["with"]).items()}


def _judge_order(
    reader: Reader, entry: CommentedMap, fault: str, settings: Mapping[str, Any], n: int
) -> None:
    """What the fault would refuse when its time comes is a mistake of the file."""
    where = entry
    if isinstance(entry.get("with"), CommentedMap):
        where = entry["with"]
        reader.known(where, SETTINGS.get(fault, {}))
    try:
        read_order(fault, settings, terminals_count=n)
    except ValueError as wrong:
        key = str(wrong).partition(":")[0]
        reader.complain(where, key if key in where else "inject", str(wrong))
    if fault == "branch_out" and "grid" not in reader.root:
        reader.complain(entry, "inject", "branch_out needs feeders: grid")


def _powers(reader: Reader, entry: CommentedMap, names: list[str]) -> dict[int, SetPower]:
    values = reader.mapping(entry, "operate", entry["operate"])
    reader.known(values, names)
    powers = {}
    for name in values:
        if name not in names:
            continue
        drawn = _RANDOM.fullmatch(str(values[name]))
        if drawn is not None:
            values[name] = drawn[1]
        powers[names.index(name)] = SetPower(
            p_w=reader.quantity(values, name, "power"), drawn=drawn is not None
        )
    return powers


def _modes(reader: Reader, entry: CommentedMap, names: list[str]) -> dict[int, int]:
    if "modes" not in entry:
        return {}
    values = reader.mapping(entry, "modes", entry["modes"])
    reader.known(values, names)
    words = [m.name.lower() for m in Mode]
    return {
        names.index(name): int(Mode[reader.word(values, name, words).upper()])
        for name in values
        if name in names
    }


def _by_terminal(
    reader: Reader, entry: CommentedMap, key: str, kind: str, names: list[str]
) -> dict[int, float]:
    if key not in entry:
        return {}
    values = reader.mapping(entry, key, entry[key])
    reader.known(values, names)
    return {names.index(n): reader.quantity(values, n, kind) for n in values if n in names}


def _expectations(
    reader: Reader, root: CommentedMap, names: list[str], duration_s: float
) -> tuple[Expectation, ...]:
    points: Mapping[str, str] = STATION_POINTS | {
        f"{name}.{point}": kind for name in names for point, kind in TERMINAL_POINTS.items()
    }
    found = []
    items = reader.sequence(root, "expect")
    for index, item in enumerate(items):
        entry = reader.mapping(items, index, item)
        reader.known(entry, EXPECT_KEYS)
        point = reader.word(entry, "point", points)
        kind = points[point]
        if "at" in entry:
            from_s = to_s = (
                duration_s
                if entry["at"] == "end"
                else (reader.quantity(entry, "at", "time", low=0.0, high=duration_s))
            )
        else:
            from_s = reader.quantity(entry, "from", "time", low=0.0, high=duration_s)
            to_s = reader.quantity(entry, "to", "time", default=duration_s, high=duration_s)
        low, high, word = _limits(reader, entry, kind, items, index)
        found.append(
            Expectation(
                point=point, from_s=from_s, to_s=to_s, line_number=_line(items, index),
                lowest_level=low, highest_level=high, word=word,
            )
        )  # fmt: skip
    return tuple(found)


def _limits(
    reader: Reader, entry: CommentedMap, kind: str, items: CommentedSeq, index: int
) -> tuple[float | None, float | None, str | None]:
    if not kind:
        if "equals" not in entry:
            reader.complain(items, index, "this point needs equals")
        return None, None, str(entry.get("equals"))
    if "is" in entry:
        middle = reader.quantity(entry, "is", kind)
        within = reader.quantity(entry, "within", kind, low=0.0)
        return middle - within, middle + within, None
    low = reader.quantity(entry, "min", kind) if "min" in entry else None
    high = reader.quantity(entry, "max", kind) if "max" in entry else None
    if low is None and high is None:
        reader.complain(items, index, "is and within, min, or max must say what is expected")
    return low, high, None
