"""The tester's socket: JSON lines on a Unix socket to inject faults and to ask for the truth."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from firmware_sim.device import SimulatedDevice, Undo

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
FOR_EVER_US = 1 << 62
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
        self._ends = [(at_us, undo) for at_us, undo in self._ends if at_us > now_us]
        for undo in due:
            undo()

    def inject(self, fault: str, order: Mapping[str, Any]) -> None:
        """Start one fault; ``for_s`` simulated seconds, else until ``clear``."""
        if fault not in INJECTIONS:
            raise ValueError(f"no such fault {fault!r}; one of {', '.join(INJECTIONS)}")
        device = self._device
        device.advance()
        undo: Undo | None = None
        if fault == "clear":
            self._clear()
        elif fault in ON_WIRE:
            undo = self._on_wire(fault, order)
        else:
            undo = device.disturb(fault, order)
        for_s = order.get("for_s")
        if undo is not None:
            lasts_us = FOR_EVER_US if for_s is None else int(float(for_s) * 1_000_000)
            self._ends.append((device.now_us() + lasts_us, undo))
        device.note(f"injected {fault} {order.get('target', '')}".rstrip())

    def _on_wire(self, fault: str, order: Mapping[str, Any]) -> Undo:
        target = str(order.get("target", "all" if fault == "delay" else "station"))
        servers = self._device.servers(target)
        for server in servers:
            match fault:
                case "link_cut":
                    server.cut(silent=order.get("style", "reset") == "silent")
                case "freeze":
                    server.responder.freeze()
                case "rtu_noise":
                    server.wire.bit_error_ratio = float(order.get("ratio", 1e-4))
                case "rtu_echo":
                    server.wire.echo = True
                case "delay":
                    server.wire.delay_s = float(order.get("delay_s", 0.3))
                case _:
                    server.wire.exception_code = int(order.get("code", 6))

        def heal() -> None:
            for server in servers:
                server.wire.heal()
                if fault == "link_cut":
                    # Whoever still believes in the old connection learns the truth.
                    server.drop_connections()

        return heal

    def _clear(self) -> None:
        for _, undo in self._ends:
            undo()
        self._ends.clear()
        for server in self._device.servers():
            was_cut = server.wire.cut
            server.wire.heal()
            if was_cut:
                server.drop_connections()
        self._device.recover()


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

    async def start(self, path: Path) -> None:
        """Listen at the path; a socket left over from a dead run is replaced."""
        path.unlink(missing_ok=True)  # noqa: ASYNC240 (once, before anything runs)
        self._server = await asyncio.start_unix_server(self._serve, path)

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(self.answer(line)).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            return
        finally:
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
        except (ValueError, KeyError, TypeError, IndexError) as wrong:
            return {"ok": False, "error": f"{type(wrong).__name__}: {wrong}"}
