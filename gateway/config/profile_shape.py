"""The shape of a profile file, key by key; units, overlaps and references are checked elsewhere."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainValidator, WithJsonSchema

from gateway.config.shape import Quantity, Shape, Whole, Word, described, quoted, wrong

PointName = Annotated[
    str,
    Word(
        r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*",
        "a point name (words of letters, digits and `_` joined by dots)",
        "t1.p_set",
    ),
]
RegisterText = Annotated[
    str,
    Word(
        r"(coil|discrete|input|holding)/(0x[0-9A-Fa-f]{1,4}|[0-9]{1,5})",
        "a register",
        "holding/3059",
    ),
]
RegisterSpan = Annotated[
    str,
    Word(
        r"(coil|discrete|input|holding)/(0x[0-9A-Fa-f]{1,4}|[0-9]{1,5})\+[0-9]{1,5}",
        "a first register and how many",
        "input/300+20",
    ),
]
Milliseconds = Annotated[int, Quantity("time", 1000, ("0 s", "1 h"))]
Share = Annotated[int, Quantity("ratio", 1_000_000, ("0 %", "100 %"))]
Order = Literal["big", "little"]
Type = Literal[
    "bool",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float32",
    "float64",
    "enum16",
    "enum32",
    "bits16",
    "bits32",
    "bits64",
    "acc16",
    "acc32",
    "acc64",
    "sunssf",
    "string",
]


def _poll(value: Any) -> int:
    return 0 if value == "once" else Quantity("time", 1000, ("10 ms", "1 h")).read(value)


def _scale(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise wrong("kind", f"{quoted(value)} is not a scale", "write a number, like `scale: 0.1`")
    if value == 0 or not Decimal("1e-12") <= abs(Decimal(value)) <= Decimal("1e12"):
        raise wrong(
            "range",
            f"a scale of {value} makes no value",
            "write what one count is worth, like `scale: 0.1`",
        )
    return Decimal(value)


def _pattern(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**64:
        raise wrong(
            "kind",
            f"{quoted(value)} is not a register pattern",
            "write a whole number, like `0x8000`",
        )
    return value


def _register_word(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0xFFFF:
        raise wrong(
            "range",
            f"{quoted(value)} is not one register",
            "a register is 0 to 0xFFFF; write two for 32 bits",
        )
    return value


def _format(value: Any) -> str:
    return Word("[78][NEO][12]", "a line format", "8N1").read(value)


def _label(value: Any) -> str:
    """A label may look like a number or a truth value; as a label it is text."""
    if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
        return str(value)
    raise wrong("kind", f"{quoted(value)} is not a label", "write a word, in quotes if need be")


Poll = Annotated[int, PlainValidator(_poll), WithJsonSchema({"type": "string"})]
Scale = Annotated[Decimal, PlainValidator(_scale), WithJsonSchema({"type": "number"})]
Pattern = Annotated[int, PlainValidator(_pattern), WithJsonSchema({"type": "integer"})]
RegisterWord = Annotated[
    int,
    PlainValidator(_register_word),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": 65535}),
]
LineFormat = Annotated[str, PlainValidator(_format), WithJsonSchema({"type": "string"})]
Label = Annotated[str, PlainValidator(_label), WithJsonSchema({"type": "string"})]
AnyValue = Annotated[Any, WithJsonSchema({"type": ["string", "number", "null"]})]


def _text_of_number(value: Any) -> Any:
    """Versions and page numbers look like numbers."""
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return str(value)
    return value


Text = Annotated[str, BeforeValidator(_text_of_number)]


class EffectShape(Shape):
    """What a write must change."""

    point: PointName = described("Point that moves", example="t1.p")
    within: Milliseconds = described("Longest time until it does", example="2 s")
    tolerance: Share = described("How close it must come", example="2 %")


class WriteShape(Shape):
    """How to write."""

    fc: Literal[5, 6, 15, 16] = described("Modbus function", default=16, example="16")
    min_interval: Milliseconds = described(
        "Shortest time between writes", default=0, example="100 ms"
    )


class NodeShape(Shape):
    """An OPC UA node."""

    node: str = described("Node id with `nsu=`", example='"nsu=c;s=Terminal1.P"')


class PointBody(Shape):
    """What a point says beside where it stands."""

    type: Type = described("How registers become a value", default="uint16", example="int32")
    node: str | None = described("OPC UA node id", default=None)
    path: str | None = described("OPC UA browse path, for servers that renumber", default=None)
    method: str | None = described("OPC UA method", default=None)
    stop: str | None = described("OPC UA method that undoes it", default=None)
    count: Whole = described("So many values one after the other", default=1, ge=1, le=125)
    length: Whole = described("Registers of a string", default=0, ge=0, le=125)
    bit: Whole | None = described(
        "One bit of the register, 0 is the lowest", default=None, ge=0, le=63
    )
    scale: Scale = described("What one count is worth", default=Decimal(1), example="0.1")
    scale_point: PointName | None = described("Point holding the exponent of ten", default=None)
    unit: Text = described("Unit of the value", default="", example="kW")
    unit_check: Literal["server", ""] = described("Compare with the server's unit", default="")
    byte_order: Order | None = described("Where it differs from the profile's", default=None)
    word_order: Order | None = described("Where it differs from the profile's", default=None)
    not_available: tuple[Pattern, ...] | None = described(
        "Patterns that mean no value", default=None
    )
    enum: dict[int, Label] | Literal["server"] | None = described(
        "Words of the numbers", default=None
    )
    map: dict[int, Label] | None = described("Words of a bit", default=None)
    bits: dict[int, Label] = described("Words of the bits", default_factory=dict)
    access: Literal["r", "w", "rw"] = described("Who may do what", default="r", example="rw")
    poll: Poll | None = described("How often to read, or `once`", default=None, example="1 s")
    doc: Whole | None = described("Number in the manual", default=None, ge=0, le=465536)
    page: Text = described("Page in the manual", default="")
    role: Literal["", "counter", "heartbeat"] = described("Special part it plays", default="")
    behaviour: Literal["", "increment", "toggle"] = described("How a heartbeat changes", default="")
    range: tuple[AnyValue, AnyValue] | Literal["server"] | None = described(
        "Lowest and highest value", default=None, example="[-250 kW, 250 kW]"
    )
    ramp: AnyValue = described("Fastest change the device makes", default=None, example="200 kW/s")
    readback: PointName | NodeShape | None = described(
        "Point that shows what was written", default=None
    )
    effect: EffectShape | None = described("What a write must change", default=None)
    storage: Literal["", "volatile", "nonvolatile"] = described(
        "Whether a write wears memory", default=""
    )
    max_writes: Whole | None = described("Writes the memory endures", default=None, ge=1)
    write: WriteShape = described("How to write", default=WriteShape())
    expect: AnyValue = described("Value it should have", default=None)
    safe: AnyValue = described("Value when in doubt", default=None, example="0 kW")
    iec61850: Text = described("Name in IEC 61850", default="")
    overlap: Literal["", "ok"] = described("Shares registers on purpose", default="")


class PointShape(PointBody):
    """One point."""

    reg: RegisterText | None = described(
        "Table and address on the wire", default=None, example="input/52"
    )


class TerminalPointShape(PointBody):
    """One point of each terminal."""

    offset: Whole = described("Registers from the terminal's first", ge=0, le=999, example="0")


class BlockShape(Shape):
    """Points repeated for every terminal."""

    reg: RegisterText = described("First register of the first terminal", example="input/1100")
    stride: Whole = described(
        "Registers from one terminal to the next", ge=1, le=9999, example="40"
    )
    points: dict[PointName, TerminalPointShape] = described(
        "Points", min_length=1, example="{p: {offset: 1, type: int32, unit: W}}"
    )


class EachTerminalShape(Shape):
    """Offset and stride instead of copies."""

    count: Whole = described("Number of terminals", ge=1, le=64, example="4")
    blocks: dict[str, BlockShape] = described("Blocks by name", default_factory=dict)


class CheckShape(Shape):
    """A value that proves the device is the one."""

    reg: RegisterText = described("Where", example="input/0")
    type: Type = described("How it reads", default="uint16")
    count: Whole = described("So many values", default=1, ge=1, le=60)
    scale: Scale = described("What one count is worth", default=Decimal(1))
    unit: Text = described("Unit", default="", example="V")
    between: tuple[AnyValue, AnyValue] = described("Lowest and highest", example="[90 V, 290 V]")


class IdentifyShape(Shape):
    """How to recognise the device."""

    fc43: dict[Literal["vendor", "product", "revision", "name", "model", "url"], Text] = described(
        "Modbus device identification; `*` at the end", default_factory=dict
    )
    sunspec: tuple[int, ...] = described("SunSpec models it must have", default=())
    application_uri: str = described("OPC UA application", default="")
    node: str = described("OPC UA nameplate node", default="")
    equals: Text = described("Its value; `*` at the end", default="")
    check: tuple[CheckShape, ...] = described("Values that must fit", default=())


class ModbusShape(Shape):
    """How the device wants to be spoken to over Modbus."""

    unit: Whole = described("Unit", default=1, ge=0, le=255)
    byte_order: Order = described("Bytes in a register", default="big")
    word_order: Order = described("Registers of a long value", default="big")
    max_registers: Whole = described("Most registers in one read", default=125, ge=1, le=125)
    max_write_registers: Whole = described("Most registers in one write", default=123, ge=1, le=123)
    gap: Whole = described("Unused registers a block may span", default=8, ge=0, le=124)
    pause: Milliseconds = described("Rest between requests", default=0)
    connect_delay: Milliseconds = described("Rest after connecting", default=0)
    forbidden: tuple[RegisterSpan, ...] = described("Never to be read", default=())
    numbering: Literal["address", "one_based", "modicon"] = described(
        "How the manual counts", default="address"
    )
    not_available: Literal["none", "sunspec", "all_ones"] = described(
        "Patterns without value", default="none"
    )
    quirks: tuple[Literal["transaction_zero", "exception_length_four"], ...] = described(
        "Faults of the device to live with", default=()
    )


class SerialShape(Shape):
    """Line settings to try, the factory's first."""

    baud: tuple[int, ...] = described("Speeds", default=(9600,), min_length=1)
    format: tuple[LineFormat, ...] = described(
        "Bits, parity, stop bits", default=("8N1",), min_length=1
    )
    units: Annotated[
        str,
        BeforeValidator(_text_of_number),
        Word(r"[0-9]{1,3}(-[0-9]{1,3})?", "a range of units", "1-247"),
    ] = described("Units", default="1-247")


class OpcuaShape(Shape):
    """How the device wants to be spoken to over OPC UA."""

    security: tuple[str, ...] = described(
        "Modes and policies", default=("SignAndEncrypt/Basic256Sha256",), min_length=1
    )
    publish: Milliseconds = described("Publishing interval", default=200)
    sampling: Milliseconds = described("Sampling interval", default=100)
    deadband: Share = described("Change worth a message", default=0)


class QualityShape(Shape):
    """OPC UA status codes by worth; `*` at the end."""

    good: tuple[str, ...] = described("Use", default=("Good",))
    questionable: tuple[str, ...] = described("Show, do not settle", default=("Uncertain*",))
    bad: tuple[str, ...] = described("Do not use", default=("Bad*",))


class CrcShape(Shape):
    """Checksum that binds a command to what was staged."""

    algorithm: Literal["crc16-modbus"] = described("Algorithm", example="crc16-modbus")
    over: Literal["staged"] = described("What it covers", example="staged")
    point: PointName = described("Where it is written", example="cmd.crc")


class EchoShape(Shape):
    """Points in which the station answers."""

    sequence: PointName = described("Sequence", example="ack.seq")
    code: PointName = described("Answer", example="ack.code")
    instruction_id: PointName = described("Instruction", example="instr.echo")


class HeartbeatPointsShape(Shape):
    """Sign of life."""

    point: PointName = described("Ours", example="hb.ctrl")
    echo: PointName = described("The station's", example="hb.device")
    period: Milliseconds = described("Time between two", example="1 s")


class WatchdogShape(Shape):
    """What the station does without it."""

    timeout: PointName = described("After how long", example="wdg.timeout")
    failsafe: PointName = described("What", example="wdg.failsafe")
    ramp: PointName = described("How fast", example="wdg.ramp")
    remaining: PointName = described("Time left", example="wdg.remain")


class CommandShape(Shape):
    """How a station takes commands."""

    staged: tuple[PointName, ...] = described("Points a setpoint fills, by register", min_length=1)
    sequence: PointName = described("Sequence", example="cmd.seq")
    code: PointName = described("Command", example="cmd.code")
    argument: PointName = described("Argument", example="cmd.arg")
    crc: CrcShape = described(
        "Checksum", example="{algorithm: crc16-modbus, over: staged, point: cmd.crc}"
    )
    instruction_id: PointName = described("Instruction", example="cmd.instr")
    echo: EchoShape = described("Answer", example="{sequence: ack.seq, code: ack.code, …}")
    ttl: PointName = described("Life of a setpoint", example="cmd.ttl")
    lease: PointName = described("Who holds control", example="lease.owner")
    heartbeat: HeartbeatPointsShape = described("Sign of life", example="{point: hb.ctrl, …}")
    watchdog: WatchdogShape = described("Fail-safe", example="{timeout: wdg.timeout, …}")
    select_timeout: Milliseconds = described("Life of a SELECT", example="10 s")


class InterlockShape(Shape):
    """When points must not be written."""

    id: Text = described("Name", example="IL-1")
    block: tuple[PointName, ...] = described("Points", min_length=1, example="[p_set]")
    when: str = described("Condition", example='"state.remote == local"')
    cause: Text = described(
        "Word for people (IEC 61850 AddCause)", example="blocked-by-interlocking"
    )


class IdentityShape(Shape):
    """A relation that holds without a reference."""

    id: Text = described("Name", example="SUM-P")
    expr: str = described("Relation", example='"p1 + p2 + p3 ~ p"')
    tolerance: Share = described("How closely", example="1 %")


class VectorShape(Shape):
    """Registers and what they mean."""

    point: PointName = described("Point", example="p")
    registers: tuple[RegisterWord, ...] = described(
        "Registers", min_length=1, max_length=125, example="[0x42C8, 0x0000]"
    )
    value: AnyValue = described("Value they decode to, or `none`", default=None, example="100 kW")
    write: AnyValue = described("Value that encodes to them", default=None, example="100 kW")


class VerifiedShape(Shape):
    """How far the profile was tried."""

    level: Literal["none", "bench", "site"] = described("Where", default="none", example="bench")
    on: Text = described("When", default="")
    firmware: Text = described("With which firmware", default="")


class ProfileShape(Shape):
    """A profile file."""

    profile: Annotated[
        str,
        Word(
            r"[a-z0-9][a-z0-9.-]*",
            "a profile name (small letters, digits, `-`, `.`)",
            "eastron-sdm630",
        ),
    ] = described("Name, also of the file", example="eastron-sdm630")
    version: Whole = described("Version of this profile", ge=1, le=9999, example="1")
    kind: Literal["station", "converter", "meter", "breaker", "sensor"] = described(
        "What it is", example="meter"
    )
    protocol: Literal["modbus", "opcua"] = described("How it speaks", example="modbus")
    vendor: Text = described("Maker", default="")
    models: tuple[Text, ...] = described("Models", default=())
    manual: Text = described("Paper the numbers come from", default="")
    verified: VerifiedShape = described("How far it was tried", default=VerifiedShape())
    license: str = described("Licence of this file", default="")
    phases: Text = described("Wiring", default="")
    identify: IdentifyShape = described("How to recognise it", default=IdentifyShape())
    modbus: ModbusShape = described("Modbus settings", default=ModbusShape())
    serial: SerialShape | None = described("Line settings", default=None)
    opcua: OpcuaShape | None = described("OPC UA settings", default=None)
    namespaces: dict[str, str] = described("OPC UA namespaces by short name", default_factory=dict)
    quality: QualityShape = described("OPC UA status codes", default=QualityShape())
    stale_after: Milliseconds = described("A silent subscription is stale after", default=3000)
    terminals: tuple[Text, ...] = described("Names of terminals", default=())
    sign: dict[Literal["p", "q"], Literal["inject_positive", "import_positive"]] = described(
        "Which direction counts positive", default_factory=dict
    )
    defaults: dict[str, Any] = described(
        "Keys every point has unless it says otherwise", default_factory=dict
    )
    points: dict[PointName, PointShape] = described("Points by name", default_factory=dict)
    each_terminal: EachTerminalShape | None = described("Points of each terminal", default=None)
    command: CommandShape | None = described("How it takes commands", default=None)
    interlocks: tuple[InterlockShape, ...] = described("When not to write", default=())
    identities: tuple[IdentityShape, ...] = described("Relations that hold", default=())
    tests: tuple[VectorShape, ...] = described("Registers and values", default=())
    notes: tuple[str, ...] = described("For people", default=())
    sim: dict[str, Any] = described("For the test bench", default_factory=dict)
