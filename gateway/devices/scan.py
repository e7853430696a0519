"""Finds devices by reading only: functions 3, 4, 17, 43/14 and the SunSpec mark.

One request in flight a line. What refuses with a Modbus exception is there; what a gateway
answers with 0A or 0B for is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from gateway.devices.connect import client_of
from gateway.devices.identity import Identification, identify
from gateway.devices.modbus import frame
from gateway.devices.modbus.client import ModbusClient, ModbusUnit
from gateway.devices.modbus.link import NotSent
from gateway.devices.profile import ModbusSettings, Table
from gateway.model.errors import BadAnswer, DeviceNotSent, DeviceRefused, OutcomeUnknown

PATH_CODES = frozenset({10, 11})  # a gateway speaks, the unit behind it does not
HOSTS_AT_ONCE_MAX = 32

Pace = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One unit that answered."""

    url: str
    unit: int
    identification: Identification
    note: str = ""

    def text(self) -> str:
        """What it said, for people."""
        return self.note or self.identification.text()


async def scan_endpoint(url: str, unit_ids: Iterable[int], *, timeout_s: float) -> list[Found]:
    """Ask every unit of one endpoint; an empty list when nobody takes the connection."""
    client = client_of(url, ModbusSettings(), timeout_s=timeout_s)
    found: list[Found] = []
    try:
        await client.link()
        for unit_id in unit_ids:
            seen = await _ask(url, _unit(client, timeout_s), unit_id)
            if seen is not None:
                found.append(seen)
    except NotSent:
        return found
    finally:
        await client.close()
    return found


def _unit(client: ModbusClient, timeout_s: float) -> ModbusUnit:
    # Without memory of earlier failures: each unit id is asked once.
    return ModbusUnit(client, name=client.where, timeout_s=timeout_s, read_retry_count_max=0)


async def _ask(url: str, unit: ModbusUnit, unit_id: int) -> Found | None:
    try:
        await unit.read(frame.read(unit_id, Table.HOLDING, 0, 1))
    except (OutcomeUnknown, DeviceNotSent):
        return None
    except DeviceRefused as refused:
        if refused.code in PATH_CODES:
            return None
        note = refused.what
    except BadAnswer as lie:
        return Found(url=url, unit=unit_id, identification=Identification(), note=str(lie))
    else:
        note = ""
    try:
        said = await identify(unit, unit_id)
    except (OutcomeUnknown, DeviceNotSent):
        said = Identification()
    return Found(url=url, unit=unit_id, identification=said, note="" if said.answered else note)


async def scan_tcp(
    hosts: Sequence[str],
    ports: Sequence[int],
    unit_ids: Sequence[int],
    *,
    timeout_s: float,
    pace: Pace,
    on_host: Callable[[int], None],
) -> AsyncIterator[Found]:
    """Scan hosts, so many at once, each new one after ``pace``; yields as they answer."""
    queue: asyncio.Queue[Found | None] = asyncio.Queue()
    room = asyncio.Semaphore(HOSTS_AT_ONCE_MAX)

    async def one(host: str, port: int) -> None:
        try:
            for found in await scan_endpoint(
                f"modbus+tcp://{host}:{port}", unit_ids, timeout_s=timeout_s
            ):
                queue.put_nowait(found)
        finally:
            room.release()
            on_host(1)

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as hosts_group:
            for host in hosts:
                for port in ports:
                    await room.acquire()
                    await pace()
                    hosts_group.create_task(one(host, port))
        queue.put_nowait(None)

    async with asyncio.TaskGroup() as group:
        scanning = group.create_task(all_of_them())
        try:
            while (found := await queue.get()) is not None:
                yield found
        finally:
            scanning.cancel()


async def open_doors(
    hosts: Sequence[str], ports: Sequence[int], *, timeout_s: float, pace: Pace
) -> list[tuple[str, int]]:
    """Which of the doors take a connection, in the order given; nothing is said there."""
    room = asyncio.Semaphore(HOSTS_AT_ONCE_MAX)
    doors = [(host, port) for host in hosts for port in ports]

    async def opens(host: str, port: int) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                _, writer = await asyncio.open_connection(host, port)
        except (OSError, TimeoutError):
            return False
        finally:
            room.release()
        writer.close()
        return True

    asked: list[asyncio.Task[bool]] = []
    async with asyncio.TaskGroup() as group:
        for host, port in doors:
            await room.acquire()
            await pace()
            asked.append(group.create_task(opens(host, port)))
    return [door for door, task in zip(doors, asked, strict=True) if task.result()]


async def scan_line(
    path: str,
    speeds_baud: Sequence[int],
    formats: Sequence[str],
    unit_ids: Sequence[int],
    *,
    timeout_s: float,
    fast: bool,
) -> AsyncIterator[Found]:
    """Scan a serial line at each speed and format; ``fast`` stops at the first that answers."""
    for speed_baud in speeds_baud:
        for line_format in formats:
            url = f"modbus+rtu://{path}?baud={speed_baud}&format={line_format}"
            found = await scan_endpoint(url, unit_ids, timeout_s=timeout_s)
            for one in found:
                yield one
            if found and fast:
                return
