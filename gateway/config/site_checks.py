"""What a site file's keys must mean together: references, limits, names used once.

Works on nodes and passes over what has no shape, so that one mistake does not hide another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from gateway.config import site_doors
from gateway.config.shape import Quantity, quoted
from gateway.config.site_controllers import check_controllers
from gateway.config.site_names import Known, once
from gateway.config.site_words import read_key
from gateway.config.yaml_reader import Document, Node, nearest
from gateway.devices.profile import Profile

# What stands behind the `?` of an address, by its scheme: files, and who we are there.
URL_FILES = {
    "modbus+tls": frozenset({"ca", "cert", "key", "name"}),
    "opc.tcp": frozenset({"cert", "key", "server", "trusted", "user", "password_file"}),
}
NEEDED_FILES = {"modbus+tls": ("ca", "cert", "key")}
NO_FILES = frozenset({"name", "user"})
USUAL_PORTS = {
    "modbus+tcp": 502,
    "modbus+rtutcp": 502,
    "modbus+tls": 802,
    "opc.tcp": 4840,
}
LINE_SETTING = re.compile(r"baud=[0-9]{3,7}|format=[78][NEO][12]")
# Public test keys of RFC 8032 §7.1: anybody can sign with them.
TEST_KEYS = frozenset(
    {
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    }
)


def check(
    document: Document,
    *,
    kinds: Mapping[str, str],
    terminal_counts: Mapping[str, int],
    lacking: Mapping[str, Sequence[str]],
    undrivable: Mapping[str, str],
    profiles: Mapping[str, Profile],
) -> None:
    """Note every problem of meaning.

    ``kinds``, counts, the points that meters lack and why converters cannot be driven come from
    the devices' ``profiles``.
    """
    root = document.root
    if root is None:
        return
    devices = root.get("devices")
    names = [name for name, _, _ in devices.pairs()] if devices is not None else []
    known = Known(
        document=document,
        names=names,
        kinds=kinds,
        counts=terminal_counts,
        lacking=lacking,
        undrivable=undrivable,
        profiles=profiles,
    )
    _site(document, root)
    _devices(known, devices)
    sops = root.get("sops")
    used: dict[str, tuple[str, Node]] = {}
    for sop_id, key, sop in sops.pairs() if sops is not None else ():
        _sop(known, sop_id, key, sop, used)
    _market(document, root.get("market"), loopback=_all_loopback(devices))
    _runtime(document, root)
    site_doors.check(document, root)
    _limits(document, root.get("limits"))
    _ledger(document, root.get("ledger"))


def _ledger(document: Document, ledger: Node | None) -> None:
    policy = ledger.get("policy") if ledger else None
    witnesses = ledger.get("witnesses") if ledger else None
    if policy is not None and witnesses is not None and witnesses.data():
        document.add(
            63,
            "a policy names its witnesses itself",
            policy,
            help="leave out `witnesses`, or `policy`",
        )


def amount(node: Node | None, dimension: str, *, scale: int = 1) -> int | None:
    """Read a quantity; None when it is missing or malformed (noted by the shape)."""
    if node is None or node.kind != "scalar":
        return None
    try:
        return Quantity(dimension, scale).read(node.value)
    except (PydanticCustomError, ValidationError):
        return None


def limits(node: Node | None, dimension: str, *, scale: int = 1) -> tuple[int, int] | None:
    """Read a range of quantities; None when it is missing or malformed."""
    if node is None or len(node.items) != 2:
        return None
    low, high = (amount(item, dimension, scale=scale) for item in node.items)
    return (low, high) if low is not None and high is not None else None


def _site(document: Document, root: Node) -> None:
    zone = root.get("site", "timezone")
    if zone is not None and isinstance(zone.value, str):
        try:
            ZoneInfo(zone.value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            message = f"there is no time zone {quoted(zone.value)}"
            document.add(36, message, zone, help="write it as in `Europe/Madrid` or `UTC`")


def _devices(known: Known, devices: Node | None) -> None:
    document = known.document
    seen: dict[tuple[str, str], tuple[str, Node]] = {}
    for name, _, device in devices.pairs() if devices is not None else ():
        url = device.get("url")
        if url is None or not isinstance(url.value, str):
            continue
        _port(document, url)
        profile, unit = known.profiles.get(name), device.get("unit")
        usual = str(profile.modbus.unit) if profile is not None else ""
        place = (_endpoint(url.value), usual if unit is None else unit.meaning)
        if place in seen:
            other, node = seen[place]
            message = f"{quoted(name)} and {quoted(other)} (line {node.line}) are the same device"
            document.add(31, message, url, help="give each its own url or unit")
        seen.setdefault(place, (name, url))


def _endpoint(url: str) -> str:
    """What a URL leads to: two spellings of one place are one place."""
    scheme, _, rest = url.partition("?")[0].rstrip("/").lower().partition("://")
    if scheme not in USUAL_PORTS:
        return f"{scheme}://{rest}"
    where, slash, path = rest.partition("/")
    _, _, port = where.rpartition(":")
    return f"{where}{'' if port.isdigit() else f':{USUAL_PORTS[scheme]}'}{slash}{path}"


def _port(document: Document, url: Node) -> None:
    place, mark, query = url.text.partition("?")
    scheme, _, rest = place.partition("://")
    where = rest.partition("/")[0]
    host, colon, port = where.rpartition(":") if not where.endswith("]") else (where, "", "")
    if colon and not (port.isdecimal() and 0 < int(port) < 65536):
        document.add(32, f"{port or 'nothing'} is not a port", url, help="ports are 1 to 65535")
    elif colon and not host:
        document.add(32, "the host is missing", url, help="write `host:502`")
    files = URL_FILES.get(scheme, frozenset())
    given = {part.partition("=")[0] for part in query.split("&")}
    if missing := [name for name in NEEDED_FILES.get(scheme, ()) if name not in given]:
        message = f"{scheme} needs {', '.join(missing)}"
        help_text = f"add {' and '.join(f'`{name}=/path`' for name in missing)} behind the `?`"
        document.add(32, message, url, help=help_text)
    for part in query.split("&") if mark else ():
        key, _, value = part.partition("=")
        if key in files:
            if key not in NO_FILES and not value.startswith("/"):
                message = f"{quoted(part)} is no whole path"
                document.add(32, message, url, help="write it from the root: `?ca=/etc/sopgw/…`")
            continue
        if files:  # what is not known may be a secret: only its name is repeated
            message = f"{quoted(key)} is nothing this kind of address knows"
            help_text = f"it knows {', '.join(sorted(files))}"
            document.add(32, message, url, help=help_text, secret=True)
        elif not LINE_SETTING.fullmatch(part):
            is_line = scheme == "modbus+rtu"
            message = f"{quoted(part if is_line else key)} is no setting of a line"
            help_text = "write `?baud=9600&format=8E1`"
            document.add(32, message, url, help=help_text, secret=not is_line)


def _sop(
    known: Known, sop_id: str, key: Node, sop: Node, meters: dict[str, tuple[str, Node]]
) -> None:
    document = known.document
    terminals = sop.get("terminals")
    ids = [name for name, _, _ in terminals.pairs()] if terminals is not None else []
    master = sop.get("master")
    if master is not None and master.kind == "scalar" and terminals and master.text not in ids:
        near = nearest(master.text, ids)
        help_text = f"did you mean `{near}`?" if near else f"terminals: {', '.join(ids)}"
        message = f"the master {quoted(master.text)} is no terminal of {sop_id}"
        document.add(20, message, master, help=help_text)
    if terminals is not None and terminals.kind == "map" and len(ids) < 2:
        document.add(
            33,
            f"{sop_id} has fewer than two terminals",
            key,
            help="a soft open point joins at least two feeders",
        )
    name = check_controllers(known, sop_id, key, sop)
    indexes: dict[str, tuple[str, Node]] = {}
    domains: dict[str, tuple[str, Node]] = {}
    for terminal_id, _, terminal in terminals.pairs() if terminals is not None else ():
        once(document, indexes, terminal.get("index"), terminal_id, 21, "index")
        once(document, domains, terminal.get("domain"), terminal_id, 29, "domain")
        once(document, meters, terminal.get("meter"), terminal_id, 37, "meter")
        meter = known.device(terminal.get("meter"), ("meter",), "meter")
        if meter is not None and known.lacking.get(meter):
            missing = " and ".join(f"`{name}`" for name in known.lacking[meter])
            message = f"the profile of {quoted(meter)} has no {missing}: it cannot settle"
            document.add(46, message, terminal.get("meter"), help="add the point to the profile")
        _guard(document, terminal)
        index = terminal.get("index")
        count = known.counts.get(name)
        if index is not None and count and isinstance(index.value, int) and index.value >= count:
            message = f"index {index.value} is beyond the {count} terminals of {quoted(name)}"
            document.add(38, message, index, help=f"indexes go from 0 to {count - 1}")
    _dc(document, sop)
    _heartbeat(document, sop.get("heartbeat"))
    _headroom(document, sop, master)


def _guard(document: Document, terminal: Node) -> None:
    rating = amount(terminal.get("s"), "apparent_power")
    powers = limits(terminal.get("guard", "p"), "power")
    node = terminal.get("guard", "p")
    if powers is None or node is None:
        return
    low, high = powers
    if rating is not None:
        for place, value in ((0, low), (1, high)):
            if abs(value) > rating:
                limit = f"{rating / 1000:g} kVA"
                message = f"the guard goes to {value / 1000:g} kW, the rating is {limit}"
                document.add(
                    25, message, node.items[place], help=f"stay within ±{rating / 1000:g} kW"
                )
    if low < high and not low <= 0 <= high:
        document.add(
            26,
            "the guard does not contain 0 kW",
            node,
            help="the fail-safe is zero power: let the range contain it",
        )


def _dc(document: Document, sop: Node) -> None:
    window = limits(sop.get("dc", "v"), "voltage", scale=10)
    nominal_node = sop.get("dc", "v_nominal")
    nominal = amount(nominal_node, "voltage", scale=10)
    if (
        window
        and nominal is not None
        and window[0] < window[1]
        and not (window[0] < nominal < window[1])
    ):
        message = "the nominal DC voltage lies outside its own limits"
        document.add(
            40,
            message,
            nominal_node,
            help=f"write a value between {window[0] / 10:g} V and {window[1] / 10:g} V",
        )


def _heartbeat(document: Document, heartbeat: Node | None) -> None:
    if heartbeat is None:
        return
    period = amount(heartbeat.get("period"), "time", scale=1000)
    timeout = amount(heartbeat.get("device_timeout"), "time", scale=1000)
    if period and timeout and timeout < 2 * period:
        message = "one lost heartbeat would trip the station"
        document.add(
            34,
            message,
            heartbeat.get("device_timeout"),
            help=f"write at least {2 * period / 1000:g} s, better {5 * period / 1000:g} s",
        )


def _headroom(document: Document, sop: Node, master: Node | None) -> None:
    """The master covers the others and all losses: it needs room beyond the widest guard."""
    terminals = sop.get("terminals")
    if master is None or terminals is None or terminals.get(master.text) is None:
        return
    rating_node = terminals.get(master.text, "s")
    rating = amount(rating_node, "apparent_power")
    parts = [amount(sop.get("losses", k), "ratio", scale=1_000_000) for k in "abc"]
    ratings = [amount(t.get("s"), "apparent_power") for _, _, t in terminals.pairs()]
    widest = 0
    for name, _, terminal in terminals.pairs():
        powers = limits(terminal.get("guard", "p"), "power")
        own = amount(terminal.get("s"), "apparent_power") or 0
        if powers is not None and name != master.text and max(-powers[0], powers[1]) <= own:
            widest = max(widest, -powers[0], powers[1])
    if rating is None or None in parts or None in ratings or not widest:
        return
    loss = sum(p or 0 for p in parts) * max(r or 0 for r in ratings) * 2 // 1_000_000
    if widest + loss > rating:
        message = (
            f"the master's rating {rating / 1000:g} kVA leaves no room for {widest / 1000:g} kW "
            f"of another terminal and {loss / 1000:g} kW of losses"
        )
        document.warn(
            30,
            message,
            rating_node,
            help="narrow the other guards, or trades at the limit will be curtailed",
        )


def _market(document: Document, market: Node | None, *, loopback: bool) -> None:
    if market is None:
        return
    signers = market.get("signers")
    count = len(signers.items) if signers is not None else 0
    required = market.get("required")
    if required is not None and isinstance(required.value, int) and count < required.value:
        message = f"{required.value} signatures are required and {count} signers are named"
        document.add(28, message, required, help=f"write at most {count}, or name more signers")
    names: dict[str, tuple[str, Node]] = {}
    keys: dict[str, tuple[str, Node]] = {}
    for signer in signers.items if signers is not None else ():
        owner = signer.word("name") or "another"
        key = signer.get("key")
        _same_signer(document, names, signer.get("name"), owner, "name")
        _same_signer(document, keys, key, owner, "key")
        if key is not None and not loopback and _hex(key) in TEST_KEYS:
            document.warn(
                41,
                f"{owner}'s key is a public test key: anybody can sign with it",
                key,
                help="make one with `sopgw trade keygen`",
            )
    gate = amount(market.get("gate"), "time")
    horizon = amount(market.get("horizon"), "time")
    if gate is not None and horizon is not None and gate >= horizon:
        message = "no trade can arrive before the gate and within the horizon"
        document.add(
            35, message, market.get("gate"), help="the gate must be shorter than the horizon"
        )
    broker, password = market.get("broker"), market.get("password")
    if broker is not None and broker.text.startswith("mqtt://") and password is not None:
        message = "the password would travel in the clear"
        document.warn(42, message, broker, help="use `mqtts://`")


def _hex(node: Node) -> str:
    try:
        return read_key(node.value).hex()
    except PydanticCustomError:
        return ""


def _limits(document: Document, found: Node | None) -> None:
    mask = found.get("dso_mask") if found is not None else None
    named = found.get("operators") if found is not None else None
    signed = mask is not None and mask.text == "signed"
    if signed and (named is None or not named.items):
        message = "limits must be signed and nobody is named whose signature counts"
        document.add(82, message, mask, help="add `operators: [{name: dso-1, key: …}]`")
    elif named is not None and named.items and not signed:
        message = "network operators are named and their limits are not taken"
        document.add(83, message, named, help="write `dso_mask: signed`")


def _same_signer(
    document: Document,
    seen: dict[str, tuple[str, Node]],
    node: Node | None,
    owner: str,
    word: str,
) -> None:
    if node is None or node.kind != "scalar":
        return
    if node.text in seen:
        other, first = seen[node.text]
        message = f"this {word} is already {other}'s (line {first.line}): one party counts once"
        document.add(43, message, node, help="give each signer a name and a key of its own")
    seen.setdefault(node.text, (owner, node))


def _all_loopback(devices: Node | None) -> bool:
    return all(
        "://127." in (device.word("url") or "") or "://localhost" in (device.word("url") or "")
        for _, _, device in (devices.pairs() if devices is not None else ())
    )


def _runtime(document: Document, root: Node) -> None:
    scan = amount(root.get("runtime", "scan"), "time", scale=1000)
    poll_node = root.get("runtime", "meter_poll")
    poll = amount(poll_node, "time", scale=1000)
    if scan and poll and poll < scan:
        message = "meters cannot be read more often than the gateway scans"
        document.add(44, message, poll_node, help=f"write at least {scan / 1000:g} s")
