"""Run one simulated device until it is told to stop: signals, control socket, closed stdin."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firmware_sim.bench import SopDevice
from firmware_sim.control import ControlServer, DeviceControl, Injector
from firmware_sim.device import SimulatedDevice
from firmware_sim.faces.extra import ExtraFaces, OpenFaces
from firmware_sim.proxy import FaultProxy
from firmware_sim.trace import Trace

if TYPE_CHECKING:
    from firmware_sim.faces.opcua_server import OpcUaFace

INJECTION_TICK_S = 0.010
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Where a device listens and what ends it."""

    port: int
    control: Path | None = None
    trace: Path | None = None
    with_stdin: bool = False
    faces: ExtraFaces = field(default_factory=ExtraFaces)
    opcua_port: int | None = None
    opcua_directory: Path | None = None
    opcua_security: str = "encrypt"


async def _until_stdin_closes(quit_now: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while await reader.read(4096):
        pass
    transport.close()
    quit_now.set()


async def _take_back(injector: Injector, wait: Callable[[float], Awaitable[None]]) -> None:
    while True:
        injector.tick()
        await wait(INJECTION_TICK_S)


async def _opcua(
    device: SimulatedDevice, service: Service, listening: dict[str, Any]
) -> OpcUaFace | None:
    if service.opcua_port is None or not isinstance(device, SopDevice):
        return None
    # asyncua is an extra and takes half a second to import.
    from firmware_sim.faces.opcua_server import open_face  # noqa: PLC0415

    directory = service.opcua_directory or Path("sopsim-opcua")
    face, listening["opcua"] = await open_face(
        device, service.opcua_port, directory, security=service.opcua_security
    )
    device.beyond.append("OPC UA")
    return face


async def serve(
    device: SimulatedDevice,
    service: Service,
    *,
    wait: Callable[[float], Awaitable[None]],
    announce: Callable[[dict[str, Any]], None],
) -> None:
    """Open the ports, announce them, run until asked to stop, close everything."""
    quit_now = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, quit_now.set)
    injector = Injector(device)
    faces = OpenFaces(device.responder, service.faces)
    device.faces.extend(faces.servers)
    opcua = None
    control = ControlServer(DeviceControl(device, injector).carry_out, quit_now)
    out = service.trace.open("w") if service.trace is not None else None
    try:
        if out is not None and isinstance(device, SopDevice):
            device.trace = Trace(out, device.sop)
        listening = {**await device.start(service.port), **await faces.start()}
        opcua = await _opcua(device, service, listening)
        if service.control is not None:
            await control.start(service.control)
        announce({"listening": listening})
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(device.run(wait)),
                group.create_task(_take_back(injector, wait)),
            ]
            if opcua is not None:
                tasks.append(group.create_task(opcua.run(wait)))
            if service.with_stdin:
                tasks.append(group.create_task(_until_stdin_closes(quit_now)))
            await quit_now.wait()
            for task in tasks:
                task.cancel()
    finally:
        await control.close()
        if service.control is not None:
            service.control.unlink(missing_ok=True)
        await faces.close()
        if opcua is not None:
            await opcua.close()
        await device.close()
        if out is not None:
            try:
                out.close()
            except OSError as error:
                log.warning("the trace lacks its end: %s", error)


async def serve_proxy(
    proxy: FaultProxy, service: Service, *, announce: Callable[[dict[str, Any]], None]
) -> None:
    """Run a fault proxy until asked to stop."""
    quit_now = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, quit_now.set)

    def carry_out(order: Mapping[str, Any]) -> dict[str, Any]:
        if order.get("query") == "log":
            return {"ok": True, "log": proxy.log}
        if order.get("inject") == "clear":
            proxy.clear()
            return {"ok": True}
        if "inject" in order:
            settings = {k: v for k, v in order.items() if k != "inject"}
            proxy.apply(str(order["inject"]), **settings)
            return {"ok": True}
        raise ValueError("one of query, inject, quit")

    control = ControlServer(carry_out, quit_now)
    try:
        port = await proxy.start(service.port)
        if service.control is not None:
            await control.start(service.control)
        announce({"listening": {"proxy": port}})
        await quit_now.wait()
    finally:
        await control.close()
        if service.control is not None:
            service.control.unlink(missing_ok=True)
        await proxy.close()


def ask(path: Path, order: dict[str, Any], *, timeout_s: float = 5.0) -> dict[str, Any]:
    """Send one order to a running device and return its answer."""

    async def exchange() -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            writer.write(json.dumps(order).encode() + b"\n")
            await writer.drain()
            async with asyncio.timeout(timeout_s):
                answer: dict[str, Any] = json.loads(await reader.readline())
                return answer
        finally:
            writer.close()

    return asyncio.run(exchange())
