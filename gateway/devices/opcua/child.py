"""The child: ``python -m gateway.devices.opcua.child FD``; answers requests until its pipe closes.

It may use so much memory and no more, opens no file but those named, and dies rather than grow.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ctypes
import datetime as dt
import logging
import math
import resource
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any

from asyncua import Client, ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.security_policies import (
    SecurityPolicyAes128Sha256RsaOaep,
    SecurityPolicyAes256Sha256RsaPss,
    SecurityPolicyBasic256Sha256,
)

from gateway.devices.opcua import pipe, trust

MEMORY_BYTES_MAX = 320 << 20  # idle it maps about 110 MB; a thread of the resolver 70 more
MESSAGE_BYTES_MAX = 16 << 20
POLICIES = {
    "Basic256Sha256": SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": SecurityPolicyAes256Sha256RsaPss,
}
BAD_SECURITY = "security"
PR_SET_PDEATHSIG = 1
ENDPOINTS_COUNT_MAX = 100
VALUES_COUNT_MAX = 4096  # elements of one array; a profile's points are scalars
# Changes with every sampling: where it stops coming, a subscription is dead, not constant.
ALIVE_NODE = ua.NodeId(ua.ObjectIds.Server_ServerStatus_CurrentTime)
# The server's own word for "I do not know whether it was done", or for "it was done, but I cannot
# tell you": never a refusal.
UNSURE_CODES = frozenset(
    {
        ua.StatusCodes.BadTimeout,
        ua.StatusCodes.BadRequestTimeout,
        ua.StatusCodes.BadCommunicationError,
        ua.StatusCodes.BadConnectionClosed,
        ua.StatusCodes.BadNoCommunication,
        ua.StatusCodes.BadUnexpectedError,
        ua.StatusCodes.BadInternalError,
        ua.StatusCodes.BadRequestCancelledByClient,
        ua.StatusCodes.BadResponseTooLarge,
        ua.StatusCodes.BadEncodingError,
        ua.StatusCodes.BadEncodingLimitsExceeded,
        ua.StatusCodes.BadSecureChannelClosed,
        ua.StatusCodes.BadSessionClosed,
        ua.StatusCodes.BadShutdown,
    }
)
NO_VALUE: dict[str, Any] = {"value": None, "status": "Bad", "source_utc_us": None}
ACTING = frozenset({"write", "call"})


class Refused(Exception):  # noqa: N818 - an answer
    """The server or the trust files said no."""

    def __init__(self, kind: str, what: str, code: int = 0) -> None:
        super().__init__(what)
        self.kind, self.code = kind, code


class Session:
    """One server."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._client: Any = None
        self._nodes: dict[str, Any] = {}
        self._types: dict[str, Any] = {}
        self._subscription: Any = None
        self._ready_id: int | None = None  # of the last request before the one that acts

    async def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order; an answer always comes back."""
        self._ready_id = None
        try:
            return {"id": order["id"], **await self._do(order)}
        except Refused as error:
            return _no(order, error.kind, str(error), error.code)
        except trust.TrustError as error:
            return _no(order, BAD_SECURITY, str(error))
        except (ServiceError, ua.UaStatusCodeError) as error:
            code = getattr(error, "code", 0) or 0
            unsure = self._cut() or (order["op"] in ACTING and code in UNSURE_CODES)
            return _no(order, "unknown" if unsure else "refused", type(error).__name__, code)
        except (ua.UaError, ValueError, struct.error) as error:
            # What asyncua raises for a key that is not the certificate's, or no such endpoint, for
            # what cannot be packed, and for an answer that cannot be read: that one came after.
            kind = "unknown" if self._acted() else "refused"
            return _no(order, kind, f"{type(error).__name__}: {error}")
        except (ConnectionError, OSError) as error:
            kind = "not_sent" if self._client is None else "unknown"
            return _no(order, kind, str(error) or type(error).__name__)
        except TimeoutError:
            return _no(order, "unknown", "no answer in time")

    def _protocol(self) -> Any:
        return self._client.uaclient.protocol if self._client is not None else None

    def _cut(self) -> bool:
        """Whether the connection has ended: the error is its end and no answer to the order."""
        if self._client is None:
            return False
        protocol = self._protocol()
        transport = protocol.transport if protocol is not None else None
        return transport is None or transport.is_closing()

    def _acts(self) -> None:
        """The next request is the one that acts; what fails before it was never sent."""
        protocol = self._protocol()
        self._ready_id = protocol._request_id if protocol is not None else -1  # noqa: SLF001

    def _acted(self) -> bool:
        """Whether the request that acts was packed and handed over to the connection."""
        if self._ready_id is None:
            return False
        protocol = self._protocol()
        return protocol is None or protocol._request_id != self._ready_id  # noqa: SLF001

    async def _do(self, order: dict[str, Any]) -> dict[str, Any]:
        match order["op"]:
            case "connect":
                return await self._connect(order)
            case "read":
                return {"values": await self._read(order["nodes"])}
            case "write":
                return await self._write(order["node"], order["value"])
            case "call":
                return await self._call(order)
            case "subscribe":
                return await self._subscribe(order["nodes"], order["publish_ms"])
            case "endpoints":
                return await _endpoints(order["url"], order["timeout_s"])
            case "prepare":
                trust.impostor_key()
                return {}
            case other:
                raise Refused("bad", f"no such order {other!r}")

    async def _connect(self, order: dict[str, Any]) -> dict[str, Any]:
        await self.close()
        pinned = trust.load_certificate(Path(order["pinned"]))
        own = trust.load_certificate(Path(order["certificate"]))
        validate = await trust.validator_of(pinned, Path(order["trusted"]))
        await trust.prove_impostor_refused(validate, pinned)
        client = Client(order["url"], timeout=order["timeout_s"])
        client.application_uri = trust.application_uri(own)
        client.certificate_validator = validate
        if order.get("user"):
            client.set_user(order["user"])
            client.set_password(order["password"])
        if order["policy"] not in POLICIES:
            raise trust.TrustError(f"no such policy {order['policy']!r}")
        await client.set_security(
            POLICIES[order["policy"]],
            order["certificate"],
            order["key"],
            server_certificate=order["pinned"],
            mode=ua.MessageSecurityMode.SignAndEncrypt,
        )
        await client.connect()
        # The server names its own limits in its answer; ours hold.
        limits = client.uaclient.protocol._connection._limits  # noqa: SLF001
        limits.max_message_size = MESSAGE_BYTES_MAX
        limits.max_chunk_count = MESSAGE_BYTES_MAX // 8192
        self._client = client
        namespaces = await client.get_namespace_array()
        self._namespaces = {uri: index for index, uri in enumerate(namespaces)}
        return {"namespaces": namespaces}

    async def _node(self, text: str) -> Any:
        if self._client is None:
            raise Refused("not_sent", "not connected")
        found = self._nodes.get(text)
        if found is None:
            found = self._nodes[text] = await self._resolve(text)
        return found

    async def _resolve(self, text: str) -> Any:
        """``nsu=URI;s=Name``, a browse path ``path=Objects|URI:Name|…``, or a property of either.

        ``property=EngineeringUnits|`` before a node names that property of it.
        """
        if text.startswith("property="):
            name, _, rest = text[9:].partition("|")
            return await (await self._node(rest)).get_child([f"0:{name}"])
        if text.startswith("path="):
            names = [self._qualified(part) for part in text[5:].split("|")]
            return await self._client.nodes.root.get_child(names)
        uri, _, rest = text.removeprefix("nsu=").partition(";")
        if uri not in self._namespaces:
            raise Refused("refused", f"the server has no namespace {uri}")
        return self._client.get_node(f"ns={self._namespaces[uri]};{rest}")

    def _qualified(self, part: str) -> str:
        uri, _, name = part.rpartition(":")
        if not uri:
            return f"0:{name}"
        if uri not in self._namespaces:
            raise Refused("refused", f"the server has no namespace {uri}")
        return f"{self._namespaces[uri]}:{name}"

    async def _read(self, texts: list[str]) -> list[dict[str, Any]]:
        nodes, rows = [], [NO_VALUE] * len(texts)
        places = []
        for place, text in enumerate(texts):
            try:
                nodes.append(await self._node(text))
                places.append(place)
            except ua.UaStatusCodeError as error:  # such a path leads nowhere
                rows[place] = NO_VALUE | {"status": type(error).__name__}
        found = await self._client.read_attributes(nodes) if nodes else []
        for place, value in zip(places, found, strict=True):
            rows[place] = _value(value)
        return rows

    async def _write(self, text: str, value: Any) -> dict[str, Any]:
        node = await self._node(text)
        kind = self._types.get(text)
        if kind is None:
            kind = self._types[text] = await node.read_data_type_as_variant_type()
        self._acts()
        # A data value as it stands: many controllers refuse one with a source timestamp.
        await node.write_value(ua.DataValue(ua.Variant(value, kind)))
        return {}

    async def _call(self, order: dict[str, Any]) -> dict[str, Any]:
        owner, method = await self._node(order["object"]), await self._node(order["method"])
        arguments = [
            ua.Variant(value, ua.VariantType[kind], is_array=isinstance(value, list))
            for kind, value in order["arguments"]
        ]
        self._acts()
        found = await owner.call_method(method, *arguments)
        outputs = found if isinstance(found, list | tuple) else [] if found is None else [found]
        return {"outputs": [_plain(v) for v in outputs]}

    async def _subscribe(self, texts: list[str], publish_ms: int) -> dict[str, Any]:
        nodes = [await self._node(text) for text in texts]
        names = {node.nodeid: text for node, text in zip(nodes, texts, strict=True)}
        writer = self._writer

        class Handler:
            """Passes every change on."""

            def datachange_notification(self, node: Any, _new: Any, data: Any) -> None:
                if node.nodeid == ALIVE_NODE:
                    writer.write(pipe.pack({"event": "alive"}))
                    return
                event = {"event": "data", "node": names[node.nodeid]}
                writer.write(pipe.pack(event | _value(data.monitored_item.Value)))

        await self._unsubscribe()
        self._subscription = await self._client.create_subscription(publish_ms, Handler())
        alive = self._client.get_node(ALIVE_NODE)
        answers = await self._subscription.subscribe_data_change([*nodes, alive])
        refused = [
            text
            for text, answer in zip([*texts, "the server's time"], answers, strict=True)
            if isinstance(answer, ua.StatusCode)
        ]
        if refused:
            await self._unsubscribe()
            raise Refused("refused", f"not to be subscribed: {', '.join(refused)}")
        return {}

    async def _unsubscribe(self) -> None:
        """Drop the old subscription; the server may have forgotten it, or be gone."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with contextlib.suppress(ServiceError, ua.UaError, OSError, TimeoutError):
                await subscription.delete()

    async def close(self) -> None:
        """Leave the server, if it can be done quickly."""
        client, self._client = self._client, None
        self._nodes, self._types, self._subscription = {}, {}, None
        if client is not None:
            try:
                async with asyncio.timeout(1.0):
                    await client.disconnect()
            except (OSError, TimeoutError, ua.UaError, ConnectionError):
                return


async def _endpoints(url: str, timeout_s: float) -> dict[str, Any]:
    """What the server says of itself to anybody; nothing of it is believed here."""
    async with asyncio.timeout(2 * timeout_s):
        found = await Client(url, timeout=timeout_s).connect_and_get_server_endpoints()
    rows = [
        {
            "url": e.EndpointUrl or "",
            "mode": e.SecurityMode.name.rstrip("_"),
            "policy": (e.SecurityPolicyUri or "").rpartition("#")[2],
            "users": sorted({t.TokenType.name for t in e.UserIdentityTokens}),
            "name": e.Server.ApplicationName.Text or "",
            "application_uri": e.Server.ApplicationUri or "",
            "certificate": base64.b64encode(e.ServerCertificate or b"").decode(),
        }
        for e in found[:ENDPOINTS_COUNT_MAX]
    ]
    return {"endpoints": rows}


def _no(order: dict[str, Any], kind: str, what: str, code: int = 0) -> dict[str, Any]:
    return {"id": order.get("id", 0), "error": kind, "what": what, "code": code}


def _value(data: Any) -> dict[str, Any]:
    status = data.StatusCode if data.StatusCode is not None else ua.StatusCode()
    stamp = data.SourceTimestamp
    value = data.Value.Value if data.Value is not None else None
    if isinstance(value, list | tuple | str | bytes) and len(value) > VALUES_COUNT_MAX:
        value, status = None, ua.StatusCode(ua.StatusCodes.BadEncodingLimitsExceeded)
    if isinstance(value, float) and not math.isfinite(value):
        value = None
    return {
        "value": _plain(value),
        "status": status.name,
        "source_utc_us": _utc_us(stamp) if stamp is not None else None,
    }


def _utc_us(stamp: Any) -> int:
    aware = stamp.replace(tzinfo=dt.UTC) if stamp.tzinfo is None else stamp
    return int(aware.timestamp() * 1_000_000)


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, ua.EUInformation):
        return {"unit": value.DisplayName.Text, "unit_code": value.UnitId}
    if isinstance(value, ua.Range):
        return {"low": value.Low, "high": value.High}
    return str(value)


async def serve(fd: int) -> None:
    """Answer until the pipe closes; orders are carried out one after the other."""
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=fd))
    session = Session(writer)
    try:
        while True:
            answer = await session.answer(await pipe.receive(reader))
            writer.write(pipe.pack(answer))
            await writer.drain()
    except (pipe.PipeBroken, ConnectionError):
        await session.close()


def main() -> None:
    """Take the limits, then serve."""
    # Even a child that is too busy to see its pipe close ends with whoever started it.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    asyncio.run(serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
