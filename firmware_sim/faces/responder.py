"""What stands behind every Modbus face: the units, the physics brought up to now, wire faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from firmware_sim.faces.pdu import answer
from firmware_sim.faces.registers import Unit

WRITES = frozenset((5, 6, 15, 16, 22, 23))


class Wire:
    """How the server's link behaves at the moment; shared by its connections."""

    __slots__ = (
        "bit_error_ratio",
        "cut",
        "delay_s",
        "echo",
        "exception_code",
        "frozen",
        "silent",
    )

    def __init__(self) -> None:
        self.heal()

    def heal(self) -> None:
        """Behave again."""
        self.cut = False
        self.silent = False
        self.delay_s = 0.0
        self.exception_code = 0
        self.frozen = False
        # On serial lines only.
        self.bit_error_ratio = 0.0
        self.echo = False


class Responder:
    """Answers requests for a set of units; shared by all faces of one device."""

    def __init__(
        self,
        units: Mapping[int, Unit],
        *,
        refresh: Callable[[], None],
        settle: Callable[[], None] | None = None,
    ) -> None:
        self.units = units
        self.wire = Wire()
        self.request_count = 0
        self._refresh = refresh
        # A write acts: what it finds must be the state of its very instant.
        self._settle = settle or refresh
        self._memory: dict[tuple[int, bytes], bytes] = {}

    def freeze(self) -> None:
        """From now on repeat the first answer to each read; physics goes on."""
        self._memory.clear()
        self.wire.frozen = True

    def respond(self, unit_id: int, pdu: bytes) -> bytes:
        """Answer one request with the physics brought up to now."""
        self.request_count += 1
        if self.wire.exception_code:
            return bytes((pdu[0] | 0x80, self.wire.exception_code))
        (self._settle if pdu[0] in WRITES else self._refresh)()
        if self.wire.frozen and pdu[0] in (2, 3, 4):
            key = (unit_id, pdu)
            if key not in self._memory:
                self._memory[key] = answer(self.units, unit_id, pdu)
            return self._memory[key]
        return answer(self.units, unit_id, pdu)
