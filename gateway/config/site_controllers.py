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
from gateway.devices.profile import Point, Profile, Protocol, Sign

SEPARATE = 39
UNDRIVABLE = 50
TIMEOUT_STEP_S = Decimal("0.1")  # as fine as the gateway tells a watchdog's time
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
        ramp = _ramp(terminal)
        if ramp is not None and terminal.get("converter") is not None:
            _not_too_slow(known, ramp, "converter", 100)
        elif ramp is not None and profile is not None:
            _not_too_slow(known, ramp, "station", 1000)
    if profile is not None:
        _told_ramp(known, [terminal for _, _, terminal in rows], profile)
        _watchdog(known, sop, profile)
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


def _point(profile: Profile, name: str) -> Point | None:
    return next((p for p in profile.all_points(1) if p.name == name), None)


def _watchdog(known: Known, sop: Node, profile: Profile) -> None:
    """Note a time of the watchdog that the station does not take."""
    node = sop.get("heartbeat", "device_timeout")
    point = _point(profile, profile.command.watchdog.timeout if profile.command else "wdg.timeout")
    if node is None or point is None:
        return
    try:
        timeout_s = read_quantity(node.value, "time")
    except PydanticCustomError:
        return  # noted by the shape
    message = f"the station's watchdog cannot be set to {node.text}"
    low_s, high_s = point.range or (timeout_s, timeout_s)
    if not low_s <= timeout_s <= high_s:
        help_text = f"its profile says {low_s:f} s to {high_s:f} s"
        known.document.add(RANGE, message, node, help=help_text)
    elif point.to_base and timeout_s % max(point.to_base, TIMEOUT_STEP_S):
        help_text = f"it counts {max(point.to_base, TIMEOUT_STEP_S):f} s"
        known.document.add(RANGE, message, node, help=help_text)


def _ramp(terminal: Node) -> tuple[Decimal, Node] | None:
    """A terminal's ramp in ratings a second, and where it stands; None where that is malformed."""
    node, rating = terminal.get("guard", "ramp"), terminal.get("s")
    if node is None or rating is None:
        return None
    try:
        dimension, amount = read_ramp(node.value)
        s_va = read_quantity(rating.value, "apparent_power")
    except PydanticCustomError:
        return None  # noted by the shape
    whole = Decimal(1_000_000) if dimension == "ratio_rate" else s_va
    return (amount / whole, node) if whole > 0 else None


def _not_too_slow(known: Known, ramp: tuple[Decimal, Node], owner: str, steps: int) -> None:
    """Note a ramp that a device cannot be told: it counts ``steps`` in its rating a second."""
    ratio, node = ramp
    if ratio * steps < 1:
        message = f"the ramp {node.text} is slower than a {owner} can be told"
        least = f"write {100 / steps:g} %/s of the rating or more"
        known.document.add(RANGE, message, node, help=least)


def _told_ramp(known: Known, terminals: Sequence[Node], profile: Profile) -> None:
    """Note where the one ramp that a station is told, the slowest, is none that it takes."""
    found = [ramp for terminal in terminals if (ramp := _ramp(terminal)) is not None]
    if not found:
        return
    ratio, node = min(found, key=lambda ramp: ramp[0])
    watchdog = profile.command.watchdog.ramp if profile.command else "wdg.ramp"
    for point in (_point(profile, "t1.ramp_set"), _point(profile, watchdog)):
        if ratio * 1000 < 1 or point is None or point.range is None:
            continue
        low, high = point.range
        if not low <= ratio <= high:
            word = "slower" if ratio < low else "faster"
            message = f"the ramp {node.text} is {word} than the station can be told"
            least, most = (f"{(100 * limit).normalize():f} %/s" for limit in point.range)
            help_text = f"its profile says {least} to {most} of the rating"
            known.document.add(RANGE, message, node, help=help_text)
            return


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
