"""What the child answers about an order that was carried out and whose answer cannot be read.

The child's own session is asked in this process, as in ``test_handshakes.py``.
"""

import contextlib
import struct

import pytest
from asyncua import ua
from asyncua.common.utils import NotEnoughData, ServiceError

from gateway.devices.opcua.child import Session

OBJECTS = "nsu=http://opcfoundation.org/UA/;i=85"
VALUE = "nsu=urn:odd:a;s=Value"
WRITE = {"op": "write", "node": VALUE, "value": 9.0}
CALL = {"op": "call", "object": OBJECTS, "method": "nsu=urn:odd:a;s=Slow", "arguments": []}


class Nowhere:
    def write(self, data):
        pass


@contextlib.asynccontextmanager
async def session_to(odd):
    session = Session(Nowhere())
    answer = await session.answer(
        {
            "op": "connect",
            "id": 1,
            "url": odd.url,
            "certificate": str(odd.trust.certificate),
            "key": str(odd.trust.key),
            "pinned": str(odd.trust.pinned),
            "trusted": str(odd.trust.trusted),
            "policy": "Basic256Sha256",
            "user": "operator",
            "password": "operator-bench",
            "timeout_s": 10,
        }
    )
    assert "error" not in answer, answer
    try:
        yield session
    finally:
        await session.close()


async def spoiled(session, service, error):
    """From now on a service is carried out, and raises when its answer is to be read."""
    target = (await session._node(VALUE)).session
    real = getattr(target, service)

    async def carried_out(*arguments):
        await real(*arguments)
        raise error

    setattr(target, service, carried_out)


@pytest.mark.parametrize(
    "error",
    [
        NotEnoughData("Not enough data left in buffer"),
        ua.UaError("No request found"),
        ValueError("77 is not a valid NodeClass"),
        struct.error("unpack requires a buffer of 4 bytes"),
        ServiceError(ua.StatusCodes.BadResponseTooLarge),
        ua.UaStatusCodeError(ua.StatusCodes.BadEncodingError),
        ua.UaStatusCodeError(ua.StatusCodes.BadEncodingLimitsExceeded),
        ua.UaStatusCodeError(ua.StatusCodes.BadSecureChannelClosed),
        ua.UaStatusCodeError(ua.StatusCodes.BadSessionClosed),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize(("service", "order"), [("call", CALL), ("write", WRITE)])
async def test_what_was_done_and_whose_answer_cannot_be_read_is_unknown(odd, service, order, error):
    async with session_to(odd) as session:
        await session.answer({"id": 2, **order})  # nodes and types are known from now on
        await spoiled(session, service, error)
        answer = await session.answer({"id": 3, **order})
        assert answer["error"] == "unknown", answer


async def test_a_servers_no_is_a_refusal_still(odd):
    async with session_to(odd) as session:
        answer = await session.answer({"id": 2, **CALL, "method": "nsu=urn:odd:a;s=Nothing"})
        assert answer["error"] == "refused"
        answer = await session.answer({"id": 3, **WRITE, "node": "nsu=urn:nowhere;s=Value"})
        assert answer["error"] == "refused"


@pytest.mark.parametrize(
    "order",
    [
        {**CALL, "arguments": [("UInt16", 70_000)]},
        {**CALL, "arguments": [("UInt16", "much")]},
        {**WRITE, "value": "much"},
    ],
)
async def test_what_cannot_be_packed_never_leaves_and_is_refused(odd, order):
    async with session_to(odd) as session:
        await session.answer({"op": "read", "id": 2, "nodes": [VALUE]})
        answer = await session.answer({"id": 3, **order})
        assert answer["error"] == "refused", answer
        assert "error" not in await session.answer({"op": "read", "id": 4, "nodes": [VALUE]})
