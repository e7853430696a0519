"""What a profile file says about a device model, as frozen values; reading YAML is not done here.

Quantities (``Quantity``) are exact and in the base unit of their dimension (W, var, Wh, V, A, Hz,
s, 1), as ``gateway.model.units.parse_quantity`` gives them. ``defaults:`` and ``like:`` are
resolved before these values are built.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

from gateway.model.units import DIMENSION_OF, UNITS

Quantity = Decimal
Words = tuple[int, ...]  # 16-bit registers as they come, or raw patterns
NOTHING: Mapping[int, str] = MappingProxyType({})


class Kind(enum.StrEnum):
    """What the device is."""

    STATION = "station"
    CONVERTER = "converter"
    METER = "meter"
    BREAKER = "breaker"
    SENSOR = "sensor"


class Protocol(enum.StrEnum):
    """How the device is spoken to."""

    MODBUS = "modbus"
    OPCUA = "opcua"


class Table(enum.StrEnum):
    """The four Modbus tables."""

    COIL = "coil"
    DISCRETE = "discrete"
    INPUT = "input"
    HOLDING = "holding"


class PointType(enum.StrEnum):
    """How registers become a value."""

    BOOL = "bool"
    UINT16 = "uint16"
    INT16 = "int16"
    UINT32 = "uint32"
    INT32 = "int32"
    UINT64 = "uint64"
    INT64 = "int64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    ENUM16 = "enum16"
    ENUM32 = "enum32"
    BITS16 = "bits16"
    BITS32 = "bits32"
    BITS64 = "bits64"
    ACC16 = "acc16"
    ACC32 = "acc32"
    ACC64 = "acc64"
    SUNSSF = "sunssf"
    STRING = "string"


class Access(enum.StrEnum):
    """Who may do what with a point."""

    READ = "r"
    WRITE = "w"
    READ_WRITE = "rw"


class Order(enum.StrEnum):
    """Which end comes first."""

    BIG = "big"
    LITTLE = "little"


class Sign(enum.StrEnum):
    """Which direction of power the device counts as positive."""

    INJECT_POSITIVE = "inject_positive"
    IMPORT_POSITIVE = "import_positive"


class Numbering(enum.StrEnum):
    """How the manual numbers registers: ``doc`` against the address on the wire.

    ``address``: the same. ``one_based``: one more. ``modicon``: 30001 or 40001 more by table.
    """

    ADDRESS = "address"
    ONE_BASED = "one_based"
    MODICON = "modicon"


class NotAvailable(enum.StrEnum):
    """Which raw patterns mean that there is no value (NaN always does).

    ``sunspec``: signed minimum, unsigned all ones, accumulator zero. ``all_ones``: unsigned all
    ones, signed maximum.
    """

    NONE = "none"
    SUNSPEC = "sunspec"
    ALL_ONES = "all_ones"


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """Where a value starts: ``input/1100``."""

    table: Table
    address: int

    @property
    def text(self) -> str:
        """Write it the way profiles do: ``input/1100``."""
        return f"{self.table}/{self.address}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Registers one after the other: ``forbidden: [input/300+20]``."""

    register: Register
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a write must change within a time: ``effect: {point, within, tolerance}``."""

    point: str
    within_ms: int
    tolerance_ratio: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteRule:
    """How a point is written: ``write: {fc, min_interval}``."""

    fc_code: int = 16
    interval_ms_min: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Where an OPC UA value lives; exactly one of the three is given."""

    node: str = ""
    path: str = ""
    method: str = ""
    stop_method: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One addressable value of a profile."""

    name: str
    type: PointType = PointType.UINT16
    register: Register | None = None
    node: Node | None = None
    count: int = 1  # that many values one after the other (checks over several phases)
    length: int = 0  # registers of a string
    bit_index: int | None = None
    scale: Decimal = Decimal(1)
    scale_point: str | None = None  # SunSpec scale factor: the value is raw · 10^that
    unit: str = ""
    unit_check: str = ""  # "server": compare with the server's EngineeringUnits
    byte_order: Order | None = None  # None: the profile's
    word_order: Order | None = None
    not_available: Words | None = None  # raw patterns; None: the profile's rule
    label_by_code: Mapping[int, str] = field(default_factory=lambda: NOTHING)  # `enum:` or `map:`
    labels_from_server: bool = False  # `enum: server`
    bits: Mapping[int, str] = field(default_factory=lambda: NOTHING)
    access: Access = Access.READ
    poll_ms: int | None = None  # None: read when asked; 0: once after connecting
    doc_number: int | None = None
    page: str = ""
    role: str = ""  # counter | heartbeat | …
    behaviour: str = ""  # increment | toggle
    range: tuple[Quantity, Quantity] | None = None
    range_from_server: bool = False
    ramp_limit: Quantity | None = None  # per second, in the base unit of the point
    readback: str | None = None
    readback_node: Node | None = None
    effect: Effect | None = None
    storage: str = ""  # volatile | nonvolatile
    write_count_max: int | None = None  # `max_writes`: what the memory endures
    write: WriteRule = WriteRule()
    expect: Quantity | None = None
    safe: Quantity | None = None
    iec61850: str = ""

    @property
    def dimension(self) -> str:
        """The dimension of the unit; empty for a plain number."""
        return DIMENSION_OF.get(self.unit, "")

    @property
    def to_base(self) -> Decimal:
        """Base units per count of the raw value."""
        factor = UNITS[self.dimension][self.unit] if self.unit else Decimal(1)
        return self.scale * factor

    @property
    def register_count(self) -> int:
        """How many registers the point takes."""
        if self.type is PointType.STRING:
            return self.length
        return REGISTERS_OF[self.type] * self.count

    def moved(self, *, prefix: str, by: int, beside: Collection[str]) -> Point:
        """The same point of another terminal, ``by`` registers on; ``beside`` moves along."""
        assert self.register is not None
        there = {name: prefix + name for name in beside}
        effect = self.effect
        return dataclasses.replace(
            self,
            name=prefix + self.name,
            register=Register(table=self.register.table, address=self.register.address + by),
            scale_point=there.get(self.scale_point or "", self.scale_point),
            readback=there.get(self.readback or "", self.readback),
            effect=effect
            and dataclasses.replace(effect, point=there.get(effect.point, effect.point)),
        )


REGISTERS_OF: Mapping[PointType, int] = MappingProxyType(
    {kind: int(kind[-2:]) // 16 if kind[-2:].isdigit() else 1 for kind in PointType}
    | {PointType.STRING: 0}  # as long as the point says
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalBlock:
    """One table of ``each_terminal:``; ``points`` are those of the first terminal."""

    name: str  # "telemetry", "staged", …
    register: Register
    stride_size: int  # registers from one terminal to the next
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EachTerminal:
    """Points that repeat for every terminal: offset and stride instead of copies."""

    count: int
    blocks: tuple[TerminalBlock, ...]

    def points(self, count: int) -> Iterator[Point]:
        """The points of ``count`` terminals, named ``t<n>.<name>`` with n from 1."""
        names = {p.name for block in self.blocks for p in block.points}
        for block in self.blocks:
            for index in range(count):
                by = index * block.stride_size
                yield from (
                    p.moved(prefix=f"t{index + 1}.", by=by, beside=names) for p in block.points
                )

    def block(self, name: str) -> TerminalBlock:
        """Return a block by name; KeyError when there is none."""
        for block in self.blocks:
            if block.name == name:
                return block
        raise KeyError(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandCrc:
    """Checksum that binds a command to what was staged."""

    algorithm: str  # "crc16-modbus"
    over: str  # "staged"
    point: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandEcho:
    """Points in which the station answers a command."""

    sequence: str
    code: str
    instruction_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The controller's sign of life and the station's own."""

    point: str
    echo: str
    period_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchdog:
    """Points that set and show what the station does when the heartbeat stops."""

    timeout: str
    failsafe: str
    ramp: str
    remaining: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandBlock:
    """How a station takes commands; every string names a point.

    ``staged`` names the points of the ``staged`` block of ``each_terminal:`` that a setpoint
    fills, in the order of the registers.
    """

    staged: tuple[str, ...]
    sequence: str
    code: str
    argument: str
    crc: CommandCrc
    instruction_id: str
    echo: CommandEcho
    ttl: str
    lease: str
    heartbeat: Heartbeat
    watchdog: Watchdog
    select_timeout_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifyCheck:
    """A value test that makes a match sure."""

    point: Point  # unnamed: name is the register's text
    between: tuple[Quantity, Quantity]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identify:
    """How to recognise the device; texts may end in ``*``."""

    fc43: Mapping[str, str] = field(default_factory=dict)  # vendor, product, revision …
    sunspec_models: Words = ()
    application_uri: str = ""
    node: str = ""
    equals: str = ""
    checks: tuple[IdentifyCheck, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusSettings:
    """How the device wants to be spoken to over Modbus."""

    unit: int = 1
    byte_order: Order = Order.BIG
    word_order: Order = Order.BIG
    register_count_max: int = 125  # `max_registers`
    register_write_count_max: int = 123  # `max_write_registers`
    gap_size: int = 8  # unused registers a block may span
    pause_ms: int = 0
    connect_delay_ms: int = 0
    forbidden: tuple[Span, ...] = ()  # never to be read
    numbering: Numbering = Numbering.ADDRESS
    not_available: NotAvailable = NotAvailable.NONE
    transaction_zero_ok: bool = False  # quirk: the device answers transaction id 0
    exception_length_four_ok: bool = False  # quirk: length 4 instead of 3 in exceptions


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialSettings:
    """Which line parameters to try, the factory setting first."""

    speeds_baud: tuple[int, ...] = (9600,)
    formats: tuple[str, ...] = ("8N1",)
    unit_id_min: int = 1
    unit_id_max: int = 247


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcuaSettings:
    """How the device wants to be spoken to over OPC UA."""

    security: tuple[str, ...] = ("SignAndEncrypt/Basic256Sha256",)
    publish_ms: int = 200
    sampling_ms: int = 100
    deadband_ratio: Decimal = Decimal(0)
    good: tuple[str, ...] = ("Good",)
    questionable: tuple[str, ...] = ("Uncertain*",)
    bad: tuple[str, ...] = ("Bad*",)
    stale_after_ms: int = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class Interlock:
    """A condition on the device's own points under which points must not be written."""

    id: str
    block: tuple[str, ...]
    when: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A relation between points that holds without any reference: ``p1 + p2 + p3 ~ p``."""

    id: str
    expression: str
    tolerance_ratio: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class TestVector:
    """Registers and what they mean; ``write`` vectors are checked by encoding.

    ``value`` is None where the registers mean that there is no value.
    """

    point: str
    registers: Words
    value: Quantity | str | None
    write: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """How far the profile has been tried."""

    level: str = "none"  # none | bench | site
    on: str = ""
    firmware: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Everything the gateway knows about a device model."""

    id: str
    format_version: int = 1
    kind: Kind
    protocol: Protocol
    vendor: str = ""
    models: tuple[str, ...] = ()
    manual: str = ""
    verified: Verified = Verified()
    license: str = ""
    phases: str = ""
    identify: Identify = field(default_factory=Identify)
    modbus: ModbusSettings = field(default_factory=ModbusSettings)
    serial: SerialSettings | None = None
    opcua: OpcuaSettings | None = None
    namespaces: Mapping[str, str] = field(default_factory=dict)
    terminals: tuple[str, ...] = ()
    sign: Mapping[str, Sign] = field(default_factory=dict)
    points: tuple[Point, ...] = ()
    each_terminal: EachTerminal | None = None
    command: CommandBlock | None = None
    interlocks: tuple[Interlock, ...] = ()
    identities: tuple[Identity, ...] = ()
    tests: tuple[TestVector, ...] = ()
    notes: tuple[str, ...] = ()
    simulation: Mapping[str, str] = field(default_factory=dict)  # `sim:` flattened, text as written

    @property
    def terminal_count(self) -> int:
        """How many terminals the device has; 0 where the profile says nothing of them."""
        return self.each_terminal.count if self.each_terminal else len(self.terminals)

    def point(self, name: str) -> Point:
        """Return a point by name, ``t<n>.<name>`` included; KeyError when there is none."""
        for point in self.all_points():
            if point.name == name:
                return point
        raise KeyError(name)

    def all_points(self, terminal_count: int | None = None) -> Iterator[Point]:
        """Every point, those of each terminal expanded."""
        yield from self.points
        if self.each_terminal is not None:
            count = self.each_terminal.count if terminal_count is None else terminal_count
            yield from self.each_terminal.points(count)
