"""The tester's socket: JSON lines on a Unix socket to inject faults and to ask for the truth."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firmware_sim.bench import SopDevice
from firmware_sim.plant.converter import Fault
from firmware_sim.plant.states import OpState

INJECTIONS = (
    "link_cut", "freeze", "local", "estop", "master_trip", "trip", "reboot",
    "watchdog_disabled", "delay", "exception", "derate", "clock_step", "clear",
)  # fmt: skip


class Injector:
    """Carries out injections on one device and takes timed ones back."""

    def __init__(self, device: SopDevice) -> None:
        self._device = device
        # Each timed fault with the simulated instant of its end.
        self._ends: list[tuple[int, Callable[[], None]]] = []

    def tick(self) -> None:
        """Take back what has lasted long enough."""
        now_us = self._device.now_us()
        due = [undo for at_us, undo in self._ends if at_us <= now_us]
        self._ends = [(at_us, undo) for at_us, undo in self._ends if at_us > now_us]
        for undo in due:
            undo()

    def inject(self, fault: str, order: dict[str, Any]) -> None:
        """Start one fault; ``for_s`` simulated seconds, else until ``clear``."""
        self._device.advance()
        target = str(order.get("target", "all" if fault in ("clear", "delay") else "station"))
        undo = self._start(fault, target, order)
        for_s = order.get("for_s")
        if undo is not None and for_s is not None:
            end_us = self._device.now_us() + int(float(for_s) * 1_000_000)
            self._ends.append((end_us, undo))
        self._device.sop.note(f"injected {fault} {target}")

    def _start(self, fault: str, target: str, order: dict[str, Any]) -> Callable[[], None] | None:
        match fault:
            case "link_cut" | "freeze" | "delay" | "exception":
                return self._on_wire(fault, target, order)
            case "clear":
                self._clear()
                return None
            case _:
                return self._on_device(fault, order)

    def _on_wire(self, fault: str, target: str, order: dict[str, Any]) -> Callable[[], None]:
        servers = self._device.servers(target)
        for server in servers:
            match fault:
                case "link_cut":
                    server.cut(silent=order.get("style", "reset") == "silent")
                case "freeze":
                    server.freeze()
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

    def _on_device(self, fault: str, order: dict[str, Any]) -> Callable[[], None] | None:
        device = self._device
        match fault:
            case "local":
                device.firmware.local = True
                return self._remote
            case "estop":
                device.estop()
                return device.release_estop
            case "master_trip":
                device.sop.trip(device.sop.master_index, Fault.INTERNAL)
            case "trip":
                device.sop.trip(int(order["terminal"]) - 1, Fault(int(order.get("bits", 1 << 15))))
            case "reboot":
                device.reboot()
            case "watchdog_disabled":
                device.firmware.watchdog_disabled = True
                return self._watchdog_on
            case "derate":
                return self._derate(float(order.get("ratio", 0.5)), order)
            case "clock_step":
                device.clock.step_utc(int(float(order.get("step_s", 2.0)) * 1e6))
            case _:
                raise ValueError(f"no such fault {fault!r}; one of {', '.join(INJECTIONS)}")
        return None

    def _remote(self) -> None:
        self._device.firmware.local = False

    def _watchdog_on(self) -> None:
        self._device.firmware.watchdog_disabled = False

    def _derate(self, ratio: float, order: dict[str, Any]) -> Callable[[], None]:
        sop = self._device.sop
        only = order.get("terminal")
        chosen = sop.converters if only is None else [sop.converters[int(only) - 1]]

        def put(value: float) -> None:
            for converter in chosen:
                converter.derate_ratio = value
                if converter.state in (OpState.RUN, OpState.DERATED):
                    converter.apply_limits()

        put(ratio)
        return lambda: put(1.0)

    def _clear(self) -> None:
        self._ends.clear()
        for server in self._device.servers():
            was_cut = server.wire.cut
            server.wire.heal()
            if was_cut:
                server.drop_connections()
        self._device.firmware.local = False
        self._device.firmware.watchdog_disabled = False
        self._device.release_estop()
        self._device.clock.step_utc(0)
        self._derate(1.0, {})


class ControlServer:
    """The Unix socket itself."""

    def __init__(self, device: SopDevice, injector: Injector, quit_now: asyncio.Event) -> None:
        self._device = device
        self._injector = injector
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
                raise TypeError("one JSON object a line")  # noqa: TRY301
            if "query" in order:
                return self._query(str(order["query"]))
            if "inject" in order:
                self._injector.inject(str(order["inject"]), order)
                return {"ok": True}
            if order.get("quit"):
                self._quit_now.set()
                return {"ok": True}
            raise ValueError("one of query, inject, quit")  # noqa: TRY301
        except (ValueError, KeyError, TypeError, IndexError) as wrong:
            return {"ok": False, "error": f"{type(wrong).__name__}: {wrong}"}

    def _query(self, what: str) -> dict[str, Any]:
        if what != "truth":
            raise ValueError(f"no such query {what!r}; one of truth")
        return {"ok": True, "truth": self._device.truth()}
