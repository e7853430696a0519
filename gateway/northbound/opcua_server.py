"""The OPC UA server's own process: shows what the gateway feeds it, takes no orders.

Only signed and encrypted channels, only clients whose certificate lies in the trust folder, and of
what they may ask nothing that writes, calls or changes the address space. Memory, files and
sessions are limited: a client that finds a hole in the stack ends this process, not the gateway.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import json
import logging
import os
import resource
import sys
from pathlib import Path
from typing import Any, Final

from asyncua import Node, Server, ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import USER_TYPES, PermissionRuleset, User, UserRole
from asyncua.crypto.truststore import TrustStore
from asyncua.crypto.validator import CertificateValidator, CertificateValidatorOptions
from asyncua.server.internal_session import InternalSession
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from gateway.devices.opcua import pipe, trust

MEMORY_BYTES_MAX = 768 << 20
FILES_MAX = 96
SESSIONS_MAX = 16
MESSAGE_BYTES_MAX = 1 << 20
CHUNK_BYTES = 65_535
ORDERS: Final = (
    ua.ObjectIds.WriteRequest_Encoding_DefaultBinary,
    ua.ObjectIds.CallRequest_Encoding_DefaultBinary,
    ua.ObjectIds.HistoryReadRequest_Encoding_DefaultBinary,
)
POLICIES: Final = (
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
)
KINDS: Final = {
    "bool": ua.VariantType.Boolean,
    "int": ua.VariantType.Int64,
    "float": ua.VariantType.Double,
    "str": ua.VariantType.String,
}
EMPTY: Final[dict[str, Any]] = {"bool": False, "int": 0, "float": 0.0, "str": ""}
STATUS: Final = {
    "good": ua.StatusCodes.Good,
    "stale": ua.StatusCodes.UncertainLastUsableValue,
    "none": ua.StatusCodes.BadNoData,
}
# UN/ECE codes as OPC UA numbers them.
UNITS: Final = {
    "W": ("WTT", "watt"),
    "var": ("D44", "var"),
    "VA": ("D46", "volt ampere"),
    "V": ("VLT", "volt"),
    "Wh": ("WHR", "watt hour"),
}


class OnlyReading(PermissionRuleset):  # type: ignore[misc]  # asyncua has no types
    """Known clients look, browse and subscribe; nobody writes, calls or rearranges."""

    def __init__(self) -> None:
        """Allow the requests of a user but for the orders."""
        self._allowed = {ua.NodeId(kind) for kind in USER_TYPES if kind not in ORDERS}

    def check_validity(self, user: User, action_type_id: ua.NodeId, _body: object) -> bool:
        """Whether this client may send this request."""
        return user.role is UserRole.User and action_type_id in self._allowed


class TrustedClients:
    """Clients by the certificate of their channel; asyncua asks at each activation of a session."""

    def __init__(self, known: dict[bytes, str]) -> None:
        """Know certificates (DER) and the names of their files."""
        self._known = known

    def get_user(
        self,
        _iserver: object,
        username: str | None = None,
        password: str | None = None,  # noqa: ARG002 (asyncua passes it by name)
        certificate: bytes | None = None,
    ) -> User | None:
        """Return a reader, or None for a stranger and for whoever shows a name instead."""
        name = self._known.get(certificate or b"")
        if name is None or username is not None:
            return None
        return User(role=UserRole.User, name=name)


def known_clients(trusted: Path) -> dict[bytes, str]:
    """Read the certificates of the trust folder."""
    known = {}
    for path in sorted(trusted.iterdir()):
        if path.suffix in (".der", ".pem"):
            certificate = trust.load_certificate(path)
            known[certificate.public_bytes(serialization.Encoding.DER)] = path.name
    return known


async def validator_of(trusted: Path) -> Any:
    """Refuse a client's certificate unless it is trusted, in time and for a client."""
    store = TrustStore([trusted], [])
    await store.load()
    options = CertificateValidatorOptions.TRUSTED_VALIDATION
    options |= CertificateValidatorOptions.PEER_CLIENT
    return CertificateValidator(options, store)


class StateServer:
    """The server and its address space."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Take what the gateway's process told at the start."""
        self._settings = settings
        self._site, self._sop = str(settings["site"]), str(settings["sop"])
        self._nodes: dict[str, tuple[Node, str]] = {}
        self._objects: dict[tuple[str, ...], Node] = {}
        self._index = 0
        trusted = Path(settings["trusted"])
        self._known = known_clients(trusted)
        if not self._known:
            raise trust.TrustError(f"{trusted}: no client's certificate lies here")
        self._server = Server(user_manager=TrustedClients(self._known))

    async def open(self) -> int:
        """Open the endpoint; return its port."""
        server, settings = self._server, self._settings
        own = trust.load_certificate(Path(settings["certificate"]))
        validate = await validator_of(Path(settings["trusted"]))
        await prove_stranger_refused(validate, self._known)
        # Takes a second: what is wrong with the files was told before. The address space is a
        # hundred thousand objects that stay, which the collector need not look through.
        gc.disable()
        await server.init()
        gc.freeze()
        gc.enable()
        await server.set_application_uri(trust.application_uri(own))
        server.set_server_name("sop-gateway state")
        server.limits.max_message_size = MESSAGE_BYTES_MAX
        server.limits.max_chunk_count = MESSAGE_BYTES_MAX // CHUNK_BYTES + 1
        InternalSession.max_connections = SESSIONS_MAX
        await server.load_certificate(settings["certificate"])
        await server.load_private_key(settings["key"])
        server.set_certificate_validator(validate)
        server.set_security_policy(list(POLICIES), permission_ruleset=OnlyReading())
        server.set_identity_tokens([ua.AnonymousIdentityToken])
        server.set_endpoint(f"opc.tcp://{settings['host']}:{settings['port']}/sopgw")
        self._index = await server.register_namespace(f"urn:sop-gateway:site:{self._site}")
        await server.start()
        port: int = server.bserver._server.sockets[0].getsockname()[1]  # noqa: SLF001 (no public way)
        return port

    async def close(self) -> None:
        """Close the endpoint."""
        await self._server.stop()

    async def show(self, utc_us: int, rows: list[dict[str, Any]]) -> None:
        """Write the values of one instant; what is new gets its node."""
        stamp = dt.datetime.fromtimestamp(utc_us / 1e6, dt.UTC).replace(tzinfo=None)
        for row in rows:
            name = row["name"]
            if name not in self._nodes:
                self._nodes[name] = (await self._add(row), row["kind"])
            node, kind = self._nodes[name]
            content = row["content"]
            variant = ua.Variant(EMPTY[kind] if content is None else content, KINDS[kind])
            data = ua.DataValue(
                variant, StatusCode=ua.StatusCode(STATUS[row["sureness"]]), SourceTimestamp=stamp
            )
            await self._server.write_attribute_value(node.nodeid, data)

    async def _parent(self, path: tuple[str, ...]) -> Node:
        """Return the object of a path below the server's Objects, made where it is missing."""
        if not path:
            return self._server.nodes.objects
        if path not in self._objects:
            above = await self._parent(path[:-1])
            self._objects[path] = await above.add_object(self._id(path), self._name(path[-1]))
        return self._objects[path]

    def _id(self, path: tuple[str, ...]) -> ua.NodeId:
        return ua.NodeId("/".join(path), self._index)

    def _name(self, word: str) -> ua.QualifiedName:
        return ua.QualifiedName(word, self._index)

    async def _add(self, row: dict[str, Any]) -> Node:
        """Make a variable; one with a unit becomes an AnalogUnitType with unit and range."""
        path = (self._site, self._sop, *row["name"].split("/"))
        parent = await self._parent(path[:-1])
        variable = await parent.add_variable(
            self._id(path), self._name(path[-1]), EMPTY[row["kind"]], KINDS[row["kind"]]
        )
        if not row["unit"]:
            return variable
        span = row["span"]
        kind = ua.ObjectIds.AnalogUnitRangeType if span else ua.ObjectIds.AnalogUnitType
        await variable.delete_reference(
            ua.NodeId(ua.ObjectIds.BaseDataVariableType), ua.ObjectIds.HasTypeDefinition
        )
        await variable.add_reference(ua.NodeId(kind), ua.ObjectIds.HasTypeDefinition)
        code, words = UNITS[row["unit"]]
        information = ua.EUInformation(
            NamespaceUri="http://www.opcfoundation.org/UA/units/un/cefact",
            UnitId=int.from_bytes(code.encode("ascii"), "big"),
            DisplayName=ua.LocalizedText(row["unit"]),
            Description=ua.LocalizedText(words),
        )
        await variable.add_property(ua.NodeId(), "0:EngineeringUnits", information)
        if span:
            bounds = ua.Range(Low=float(span[0]), High=float(span[1]))
            await variable.add_property(ua.NodeId(), "0:EURange", bounds)
        return variable


async def prove_stranger_refused(validate: Any, known: dict[bytes, str]) -> None:
    """Raise TrustError unless a double of a known client with another key is refused."""
    for der in list(known)[:1]:
        double = trust.double_of(x509.load_der_x509_certificate(der))
        description = ua.ApplicationDescription()
        description.ApplicationUri = trust.application_uri(double)
        description.ApplicationType = ua.ApplicationType.Client
        try:
            await validate(double, description)
        except ServiceError:
            return
        raise trust.TrustError("an impostor's certificate was accepted")


async def serve() -> None:
    """Open with the first message, then show what comes until the pipe closes."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    settings = await pipe.receive(reader)
    try:
        server = StateServer(settings)
        port = await server.open()
    except (trust.TrustError, OSError, ValueError, ua.UaError) as error:
        _tell({"error": f"{type(error).__name__}: {error}"})
        return
    _tell({"port": port})
    try:
        while True:
            message = await pipe.receive(reader)
            await server.show(message["utc_us"], message["values"])
    except pipe.PipeBroken:
        await server.close()


def _tell(answer: dict[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


def main() -> None:
    """Take the limits, then serve."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_MAX, FILES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    asyncio.run(serve())


if __name__ == "__main__":
    main()
