"""Being the market for a moment: send one signed document and wait for the signed answers.

Used by ``sopgw trade submit``, benches and the demo. The broker's own acknowledgement is not an
answer; only the gateway's signed word is.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiomqtt

from gateway.market import dsse, messages, schedule_document
from gateway.market.mqtt import QOS, Broker
from gateway.market.topics import Topics
from gateway.model.errors import GatewayError
from gateway.model.reason import Reason

RESEND_S = 5.0  # several times what a gateway needs for its answer


class BrokerUnreachable(GatewayError):  # noqa: N818 - says what is the case
    """The broker does not answer or refuses us."""

    retryable = True


@dataclass(slots=True)
class Answers:
    """What came back: answers that count by trade id, and reasons to doubt the others."""

    wanted: frozenset[str]
    by_trade: dict[str | None, Mapping[str, Any]] = field(default_factory=dict)
    doubts: list[Reason] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Every trade of the message was answered, or the message as a whole."""
        return None in self.by_trade or (bool(self.wanted) and self.wanted <= set(self.by_trade))

    @property
    def accepted(self) -> bool:
        """Every trade of the message was accepted."""
        return self.complete and all(a["accepted"] for a in self.by_trade.values())


async def submit(
    payload: bytes, *, broker: Broker, topics: Topics, wait_s: float, gateway_key: bytes | None
) -> Answers:
    """Publish a message until it is answered, for at most ``wait_s``.

    A broker may lose what it acknowledged, so the message is sent again every ``RESEND_S``; the
    first answer counts, a later one would only call the repetition a duplicate.

    Args:
        payload: the signed message, sent as it is, so that refusals can be tried too.
        broker: where to.
        topics: of the SOP it is for.
        wait_s: real seconds to wait for the answers.
        gateway_key: raw public key the answers must be signed with; None to take any.

    Raises:
        BrokerUnreachable: when nothing could be sent.
    """
    body = dsse.peek(payload)
    ids = schedule_document.claimed(body)[0] if body is not None else ()
    answers = Answers(wanted=frozenset(ids))
    sha256 = hashlib.sha256(payload).hexdigest()
    async with _connected(broker) as client:
        await client.subscribe(topics.acknowledgements, qos=QOS)
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + wait_s
        while not answers.complete and (left_s := ends_s - loop.time()) > 0:
            await client.publish(topics.trades, payload, qos=QOS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, RESEND_S)):
                    async for message in client.messages:
                        _take(answers, bytes(message.payload), sha256, gateway_key)
                        if answers.complete:
                            break
    return answers


def _take(answers: Answers, raw: bytes, sha256: str, gateway_key: bytes | None) -> None:
    body = messages.read_answer(
        raw, payload_type=dsse.PAYLOAD_TYPE_ACKNOWLEDGEMENT, gateway_key=gateway_key
    )
    if isinstance(body, list):
        answers.doubts.extend(body)
    elif body.get("message_sha256") == sha256 and isinstance(body.get("accepted"), bool):
        answers.by_trade.setdefault(body.get("trade_id"), body)


@contextlib.asynccontextmanager
async def _connected(broker: Broker) -> AsyncIterator[aiomqtt.Client]:
    try:
        async with aiomqtt.Client(
            broker.host,
            broker.port,
            username=broker.username,
            password=broker.password,
            tls_context=broker.tls,
        ) as client:
            yield client
    except aiomqtt.MqttError as error:
        raise BrokerUnreachable(f"{broker.host}:{broker.port}: {error}") from error
