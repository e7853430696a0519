"""The tester's socket: JSON lines on a Unix socket to inject faults and to ask for the truth."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from firmware_sim.claims import Undo, together
from firmware_sim.device import Server, SimulatedDevice
from firmware_sim.faces.responder import Responder
from firmware_sim.orders import lasting_s, read_order

ON_WIRE = ("link_cut", "freeze", "delay", "exception", "rtu_noise", "rtu_echo")
ON_STATION = (
    "local", "estop", "master_trip", "trip", "reboot", "watchdog_disabled", "door", "derate",
    "stuck", "feeder", "clock_step", "bad_quality", "opcua_bomb",
    "branch_out",
    "fan",
    "clip",
    "breaker_stuck",
)  # fmt: skip
ON_METER = ("meter_reset", "meter_exchange", "meter_counters", "wiring", "load")
STYLES = ("reset", "silent")
# Faults of the wire that only the Modbus faces know how to commit.
NOT_BEYOND = ("link_cut", "delay", "exception")
INJECTIONS = (*ON_WIRE, *ON_STATION, *ON_METER, "clear")


class Injector:
    """Carries out injections on one device and takes timed ones back."""

    def __init__(self, device: SimulatedDevice) -> None:
        self._device = device
        # What takes each fault back, with the simulated instant when it does by itself.
        self._ends: list[tuple[int, Undo]] = []

    def tick(self) -> None:
        """Take back what has lasted long enough."""
        now_us = self._device.now_us()
        due = [undo for at_us, undo in self._ends if at_us <= now_us]
        if not due:
            return
        self._ends = [(at_us, undo) for at_us, undo in self._ends if at_us > now_us]
        self._device.settle()
        for undo in due:
            undo()

    def inject(self, fault: str, order: Mapping[str, Any]) -> None:
        """Start one fault; ``for_s`` simulated seconds, else until ``clear``."""
        if fault not in INJECTIONS:
            raise ValueError(f"no such fault {fault!r}; one of {', '.join(INJECTIONS)}")
        for_s = lasting_s(order)
        device = self._device
        device.settle()
        undo: Undo | None = None
        if fault == "clear":
            self._clear()
        elif fault in ON_WIRE:
            undo = self._on_wire(fault, order)
        else:
            undo = device.disturb(fault, order)
        if undo is not None and for_s is not None:
            self._ends.append((device.now_us() + int(for_s * 1_000_000), undo))
        device.note(f"injected {fault} {order.get('target', '')}".rstrip())

    def _on_wire(self, fault: str, order: Mapping[str, Any]) -> Undo:
        target = str(order.get("target", "all" if fault == "delay" else "station"))
        given, servers = read_order(fault, order), self._device.servers(target)
        style = str(order.get("style", "reset"))
        if style not in STYLES:
            raise ValueError(f"style: {style!r} is not one of {', '.join(STYLES)}")
        self._reaches(fault, order, servers)
        hold = self._device.claims.hold
        match fault:
            case "link_cut":
                undos = [
                    hold((server, "cut"), style, rest="", put=partial(_cut, server))
                    for server in servers
                ]
            case "freeze":
                undos = [
                    hold((s.wire, "frozen"), True, rest=False, put=partial(_freeze, s.responder))  # noqa: FBT003
                    for s in servers
                ]
            case _:
                name, value, rest = {
                    "rtu_noise": ("bit_error_ratio", given.get("ratio"), 0.0),
                    "rtu_echo": ("echo", True, False),
                    "delay": ("delay_s", given.get("delay_s"), 0.0),
                    "exception": ("exception_code", given.get("code"), 0),
                }[fault]
                undos = [
                    hold((s.wire, name), value, rest=rest, put=partial(setattr, s.wire, name))
                    for s in servers
                ]
        return together(*undos)

    def _reaches(self, fault: str, order: Mapping[str, Any], servers: Sequence[Server]) -> None:
        """Refuse what would seem to be done and is not: no face may be left out unsaid."""
        face, device = str(order.get("face", "all")), self._device
        if face not in ("all", "modbus"):
            raise ValueError(f"face: {face!r} is not one of all, modbus")
        first = any(server.responder is device.responder for server in servers)
        if face == "all" and first and device.beyond and fault in NOT_BEYOND:
            raise ValueError(
                f"{fault} does not reach {', '.join(device.beyond)}; "
                "with face=modbus it starts on the other faces alone"
            )

    def _clear(self) -> None:
        self._ends.clear()
        self._device.recover()
        for server in self._device.servers():
            was_cut = server.wire.cut
            server.wire.heal()
            if was_cut:
                server.drop_connections()


def _cut(server: Server, style: str) -> None:
    if style:
        server.cut(silent=style == "silent")
        return
    server.wire.cut = server.wire.silent = False
    # Whoever still believes in the old connection learns the truth.
    server.drop_connections()


def _freeze(responder: Responder, on: bool) -> None:  # noqa: FBT001 (put by a claim)
    if not on:
        responder.wire.frozen = False
    elif not responder.wire.frozen:
        responder.freeze()


class DeviceControl:
    """Answers a tester's orders to a device."""

    def __init__(self, device: SimulatedDevice, injector: Injector) -> None:
        self._device = device
        self._injector = injector

    def carry_out(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one order."""
        if "query" in order:
            if order["query"] != "truth":
                raise ValueError(f"no such query {order['query']!r}; one of truth")
            return {"ok": True, "truth": dict(self._device.truth())}
        if "inject" in order:
            self._injector.inject(str(order["inject"]), order)
            return {"ok": True}
        raise ValueError("one of query, inject, quit")


class ControlServer:
    """JSON lines on a Unix socket; ``quit`` ends the program, the rest is carried out."""

    def __init__(
        self, carry_out: Callable[[Mapping[str, Any]], dict[str, Any]], quit_now: asyncio.Event
    ) -> None:
        self._carry_out = carry_out
        self._quit_now = quit_now
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, path: Path) -> None:
        """Listen at the path; a socket left over from a dead run is replaced."""
        path.unlink(missing_ok=True)  # noqa: ASYNC240 (once, before anything runs)
        self._server = await asyncio.start_unix_server(self._serve, path)

    async def close(self) -> None:
        """Stop listening and let go of every tester that is still connected."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                # Whoever does not read its answers must not hold the program up either.
                stuck = writer.transport.get_write_buffer_size() > 0
                (writer.transport.abort if stuck else writer.close)()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                writer.write(json.dumps(self.answer(line)).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    def answer(self, line: bytes) -> dict[str, Any]:
        """Answer one line."""
        try:
            order = json.loads(line)
            if not isinstance(order, dict):
                return {"ok": False, "error": "one JSON object a line"}
            if order.get("quit"):
                self._quit_now.set()
                return {"ok": True}
            return self._carry_out(order)
        except (ValueError, KeyError, TypeError, IndexError, OverflowError) as wrong:
            return {"ok": False, "error": f"{type(wrong).__name__}: {wrong}"}
