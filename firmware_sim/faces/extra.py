"""Further faces of a device beside Modbus TCP: the same units, the same physics, at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware_sim.faces.modbus_tcp import ModbusTcpServer
from firmware_sim.faces.responder import Responder
from firmware_sim.faces.rtu import PtyBus, RtuTcpServer
from firmware_sim.faces.tls import server_context


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraFaces:
    """Which faces to open; ports of 0 pick free ones."""

    rtu_link: Path | None = None
    rtu_tcp_port: int | None = None
    tls_port: int | None = None
    tls_directory: Path | None = None


class OpenFaces:
    """Opens and closes the further faces of one responder."""

    def __init__(self, responder: Responder, wanted: ExtraFaces) -> None:
        self._wanted = wanted
        self._bus = PtyBus(responder)
        self._rtu_tcp = RtuTcpServer(responder)
        self._tls = ModbusTcpServer(responder)
        # Those with connections, which a cut link must reset; the serial line has none.
        self.servers = (self._rtu_tcp, self._tls)

    async def start(self) -> Mapping[str, Any]:
        """Open what is wanted and say where it is."""
        wanted = self._wanted
        where: dict[str, Any] = {}
        if wanted.rtu_link is not None:
            where["rtu"] = self._bus.open(wanted.rtu_link)
        if wanted.rtu_tcp_port is not None:
            where["rtu_tcp"] = await self._rtu_tcp.start(wanted.rtu_tcp_port)
        if wanted.tls_port is not None and wanted.tls_directory is not None:
            context = server_context(wanted.tls_directory)
            where["tls"] = await self._tls.start(wanted.tls_port, tls=context)
        return where

    async def close(self) -> None:
        """Close them all."""
        self._bus.close()
        await self._rtu_tcp.close()
        await self._tls.close()
