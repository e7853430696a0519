"""The words and quantities of a site file: names, addresses, keys, ramps."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, PlainValidator, WithJsonSchema

from gateway.config.shape import Quantity, Word, quoted, read_quantity, wrong
from gateway.model.units import DIMENSION_OF

# A point of small order verifies signatures that nobody made (RFC 8032, section 8.1 and 5.1.7).
_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
_SMALL_ORDER = (
    0,
    1,
    _P - 1,
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,  # order 8, and its negative
    _P - 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
)


def read_key(value: Any) -> bytes:
    """Read a raw Ed25519 public key in BASE64; refuse points that verify anything."""
    try:
        raw = base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError):
        raise wrong(
            "name", "the key is not BASE64", "paste the line that `sopgw trade keygen` prints"
        ) from None
    if len(raw) != 32:
        raise wrong(
            "name",
            f"the key has {len(raw)} bytes, an Ed25519 public key has 32",
            "paste the raw public key in BASE64: 44 characters ending in `=`",
        )
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if not _on_curve(y):
        raise wrong(
            "name",
            "the key is no point of Ed25519",
            "paste the raw public key in BASE64: 44 characters ending in `=`",
        )
    if y in _SMALL_ORDER:
        raise wrong(
            "name",
            "this key verifies signatures that nobody made",
            "make a real one with `sopgw trade keygen`",
        )
    return raw


def _on_curve(y: int) -> bool:
    """Whether some x has this y: x² = (y² − 1) / (d·y² + 1), RFC 8032 section 5.1.3."""
    if y >= _P:
        return False
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    return square == 0 or pow(square, (_P - 1) // 2, _P) == 1


def reachable(value: str) -> str:
    """Refuse an address that no socket takes, before a start fails for it."""
    try:
        parts = urlsplit(value if "://" in value else f"//{value}")
        host, port = parts.hostname, parts.port
        found = bool(host and host.encode("idna")) and port != 0
    except ValueError:  # a port above 65535, brackets around no address, a name with an empty part
        found = False
    if not found:
        raise wrong(
            "name",
            f"{quoted(value)} names no host or no port that there is",
            "write HOST or HOST:PORT, the port from 1 to 65535",
        )
    return value


PublicKey = Annotated[
    bytes,
    PlainValidator(read_key),
    WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9+/]{43}=$"}),
]
Name = Annotated[
    str,
    Word(
        pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}",
        what="a name (letters, digits, `.`, `_`, `-`; at most 40)",
        example="SOP-1",
    ),
]
Origin = Annotated[
    str,
    Word(
        pattern=r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)*",
        what="a ledger's name (host and path, no spaces, no `+`)",
        example="bench4.example/SOP-1",
    ),
]
DeviceUrl = Annotated[
    str,
    Word(
        pattern=r"(modbus\+(tcp|tls|rtutcp)|opc\.tcp)://[^\s/?#]+([/?][^\s]*)?|modbus\+rtu:///[^\s?]+(\?[^\s]*)?",
        what="the address of a device",
        example="modbus+tcp://192.168.10.20:502",
    ),
]
BrokerUrl = Annotated[
    str,
    Word(
        pattern=r"mqtts?://[A-Za-z0-9_.\[\]:-]+/?",
        what="the address of an MQTT broker",
        example="mqtts://broker.example:8883",
    ),
    AfterValidator(reachable),
]
NodeUrl = Annotated[
    str,
    Word(
        pattern=r"https?://[A-Za-z0-9_.\[\]:-]+/?",
        what="the address of a market node",
        example="http://127.0.0.1:8470",
    ),
]
Member = Annotated[
    str,
    Word(
        pattern=r"(uid|gid):[0-9]{1,10}|(user|group):[A-Za-z_][A-Za-z0-9._-]{0,31}\$?",
        what="somebody of this machine",
        example="user:alice",
    ),
]
Listen = Annotated[
    str,
    Word(
        pattern=r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}",
        what="an address to listen on",
        example="127.0.0.1:8080",
    ),
]


def _title(value: str) -> str:
    if not value.strip() or not value.isprintable() or len(value) > 120:
        raise wrong(
            "name",
            f"{quoted(value)} cannot be a title",
            "one line of printable text, at most 120 characters",
        )
    return value


Title = Annotated[str, AfterValidator(_title)]


def read_ramp(value: Any) -> tuple[str, int]:
    """Read a ramp: ``ratio_rate`` in ppm of the rating a second, or ``power_rate`` in W/s."""
    unit = str(value).strip().lstrip("+-−0123456789. ")
    dimension = DIMENSION_OF.get(unit, "ratio_rate")
    if dimension not in ("ratio_rate", "power_rate"):
        raise wrong(
            "unit", f"{quoted(value)} is not a ramp", "write `20 %/s` (of the rating) or `50 kW/s`"
        )
    amount = read_quantity(value, dimension)
    if amount <= 0:
        raise wrong("range", f"the ramp {value} is not positive", "write `20 %/s` or `50 kW/s`")
    return dimension, int(amount * (1_000_000 if dimension == "ratio_rate" else 1))


Ramp = Annotated[
    tuple[str, int],
    PlainValidator(read_ramp),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*(%\/s|W\/s|kW\/s)$"}),
]
RatioPpm = Annotated[int, Quantity("ratio", 1_000_000, ("0 %", "10 %"))]
