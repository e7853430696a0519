"""Who carries out a SOP's instructions: one station, or a converter at every terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from pydantic_core import PydanticCustomError

from gateway.config.shape import MISSING, RANGE, Shape, quoted, read_quantity
from gateway.config.site_names import Known, once
from gateway.config.site_shape import SopShape, TerminalShape
from gateway.config.site_words import read_ramp
from gateway.config.yaml_reader import Node, nearest
from gateway.devices.converter import lacking
from gateway.devices.profile import Profile, Protocol, Sign

SEPARATE = 39
UNDRIVABLE = 50
NAMED_MAX = 4  # of the points a profile lacks


def undrivable(profile: Profile) -> str:
    """Say why the driver of converters can do nothing with a profile; empty where it can."""
    missing = [name if " " in name else f"`{name}`" for name in lacking(profile)]
    if profile.protocol is not Protocol.MODBUS:
        return f"is for {profile.protocol}, converters are driven on Modbus"
    if missing:
        more = [f"{len(missing) - NAMED_MAX} more"] if len(missing) > NAMED_MAX else []
        return f"has no {_list([*missing[:NAMED_MAX], *more])}"
    if Sign.IMPORT_POSITIVE in (profile.sign.get("p"), profile.sign.get("q")):
        return "counts import as positive"
    return ""


def check_controllers(known: Known, sop_id: str, key: Node, sop: Node) -> str:
    """Note what is wrong with a SOP's station or converters; the station's name, if it has one."""
    station, terminals = sop.get("station"), sop.get("terminals")
    rows = list(terminals.pairs()) if terminals is not None else []
    own = {t: node for t, _, terminal in rows if (node := terminal.get("converter")) is not None}
    name = known.device(station, ("station",), "station")
    once(known.document, known.stations, station, sop_id, 47, "station")
    for terminal_id, converter in own.items():
        device = known.device(converter, ("converter",), "converter")
        if device is not None and (why := known.undrivable.get(device)):
            message = f"the profile of {quoted(device)} {why}: it cannot be driven"
            help_text = "see configs/profiles/sunspec-vsc.yaml for the points of a converter"
            known.document.add(UNDRIVABLE, message, converter, help=help_text)
        once(known.document, known.converters, converter, terminal_id, 49, "converter")
    profile = known.profiles.get(name or "")
    for _, _, terminal in rows:
        if terminal.get("converter") is not None:
            _ramp(known, terminal, "converter", 100, None)
        elif profile is not None:
            _ramp(known, terminal, "station", 1000, _range(profile, "t1.ramp_set"))
    if profile is not None:
        _watchdog(known, sop, _range(profile, "wdg.timeout"))
    on_loss = sop.get("heartbeat", "on_loss")
    if own and on_loss is not None and on_loss.text == "block":
        message = "converters of their own go back to zero, they cannot be told to block"
        known.document.add(SEPARATE, message, on_loss, help="write `on_loss: ramp_zero`")
    _one_way(known, sop_id, key, sop, own)
    if not own:
        _indexes(known, sop_id, rows)
    return name or ""


def _one_way(known: Known, sop_id: str, key: Node, sop: Node, own: Iterable[str]) -> None:
    """Note a SOP with both ways, with neither, or with some converters only."""
    station, terminals = sop.get("station"), sop.get("terminals")
    rows = list(terminals.pairs()) if terminals is not None else []
    lacking = [
        (terminal_id, at)
        for terminal_id, at, terminal in rows
        if terminal_id not in own and not _misspelt(terminal, TerminalShape, "converter")
    ]
    owners = _list(list(own))
    if station is not None and owners:
        message = f"{sop_id} has a station, and a converter of its own at {owners}"
        help_text = "leave out `station`, or every `converter`"
        known.document.add(SEPARATE, message, station, help=help_text)
    elif owners and lacking:
        without = _list([terminal_id for terminal_id, _ in lacking])
        message = f"{sop_id} has a converter of its own at {owners}, and none at {without}"
        help_text = "name a `converter` at every terminal, or one `station` for the SOP"
        known.document.add(SEPARATE, message, lacking[0][1], help=help_text)
    elif (
        station is None
        and len(lacking) == len(rows) > 0
        and not _misspelt(sop, SopShape, "station")
    ):
        message = f"nothing carries out the instructions of {sop_id}"
        help_text = "add `station: NAME`, or a `converter: NAME` at every terminal"
        known.document.add(SEPARATE, message, key, help=help_text)


def _misspelt(node: Node, shape: type[Shape], wanted: str) -> bool:
    """Tell whether an unknown key was probably meant to be the wanted one (noted by the shape)."""
    known = shape.model_fields
    return any(name not in known and nearest(name, known) == wanted for name, _, _ in node.pairs())


def _range(profile: Profile, name: str) -> tuple[Decimal, Decimal] | None:
    """The least and the most a point takes, in base units, where the profile says so."""
    return next((p.range for p in profile.all_points(1) if p.name == name), None)


def _watchdog(known: Known, sop: Node, limits: tuple[Decimal, Decimal] | None) -> None:
    """Note a time of the watchdog that the station does not take."""
    node = sop.get("heartbeat", "device_timeout")
    if node is None or limits is None:
        return
    try:
        timeout_s = read_quantity(node.value, "time")
    except PydanticCustomError:
        return  # noted by the shape
    if not limits[0] <= timeout_s <= limits[1]:
        message = f"the station's watchdog cannot be set to {node.text}"
        help_text = f"its profile says {limits[0]:f} s to {limits[1]:f} s"
        known.document.add(RANGE, message, node, help=help_text)


def _ramp(
    known: Known,
    terminal: Node,
    owner: str,
    steps: int,
    limits: tuple[Decimal, Decimal] | None,
) -> None:
    """Note a ramp that a device cannot be told: it counts ``steps`` in its rating a second."""
    node, rating = terminal.get("guard", "ramp"), terminal.get("s")
    if node is None or rating is None:
        return
    try:
        dimension, amount = read_ramp(node.value)
        s_va = read_quantity(rating.value, "apparent_power")
    except PydanticCustomError:
        return  # noted by the shape
    whole = 1_000_000 if dimension == "ratio_rate" else s_va
    if amount * steps < whole:
        message = f"the ramp {node.text} is slower than a {owner} can be told"
        least = f"write {100 / steps:g} %/s of the rating or more"
        known.document.add(RANGE, message, node, help=least)
    elif limits is not None and amount > limits[1] * whole:
        message = f"the ramp {node.text} is faster than the station can be told"
        most = f"its profile says {100 * limits[1]:f} %/s of the rating at most"
        known.document.add(RANGE, message, node, help=most)


def _indexes(known: Known, sop_id: str, rows: Sequence[tuple[str, Node, Node]]) -> None:
    """Note terminals without a place in the register map of their station."""
    for terminal_id, key, terminal in rows:
        index = terminal.get("index")
        if terminal.kind != "map" or _misspelt(terminal, TerminalShape, "index"):
            continue
        if index is None or (index.kind == "scalar" and index.value is None):
            message = f"key `index` is missing in `sops.{sop_id}.terminals.{terminal_id}`"
            known.document.add(MISSING, message, key, help="add `index: 0`")


def _list(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1])] * (len(names) > 1) + list(names[-1:]))


def indexes_of(found: SopShape) -> dict[str, int]:
    """Return the place of every terminal: as written, else the lowest that is free, in order."""
    taken = {t.index for t in found.terminals.values() if t.index is not None}
    free = (n for n in range(2 * len(found.terminals)) if n not in taken)
    return {
        terminal_id: next(free) if t.index is None else t.index
        for terminal_id, t in found.terminals.items()
    }
