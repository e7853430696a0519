"""A Sparkplug B edge node that only tells: birth, data by exception, death; orders are passed over.

Source: Sparkplug 3.0.0 specification, §4 and §5. The node is the gateway, its one device the SOP.
No command changes the site: trades have their own signed way in. A rebirth is granted only to a
message that was not retained, since an old order must not act.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.northbound import sparkplug_payload as payload
from gateway.northbound.sparkplug_payload import Metric
from gateway.northbound.values import Content, Sureness, Value

REBIRTH = "Node Control/Rebirth"
SEQ_MODULUS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is to be published; Sparkplug data go at most once, never retained."""

    topic: str
    payload: bytes
    qos_level: int = 0


class SparkplugNode:
    """The session's numbers and what was told last; pure but for its own counting."""

    def __init__(self, *, group: str, node: str, device: str) -> None:
        """Name the node; ``device`` is the SOP."""
        self._group, self._node, self._device = group, node, device
        self._seq = 0
        self._birth_seq = -1  # bdSeq: one a connection, from 0
        self._told: dict[str, tuple[Content, Sureness]] = {}
        self._aliases: dict[str, int] = {}

    @property
    def commands(self) -> str:
        """The topic of orders to the node."""
        return f"spBv1.0/{self._group}/NCMD/{self._node}"

    def death(self, *, utc_ms: int) -> Message:
        """Begin a connection: the will that the broker publishes when it breaks."""
        self._birth_seq = (self._birth_seq + 1) % SEQ_MODULUS
        return Message(
            topic=f"spBv1.0/{self._group}/NDEATH/{self._node}",
            payload=payload.write(utc_ms=utc_ms, metrics=[self._bd_seq(utc_ms)]),
            qos_level=1,
        )

    def birth(self, values: Sequence[Value], *, utc_ms: int) -> list[Message]:
        """Say everything: the node first, then the SOP with names, aliases, units."""
        self._seq = 0
        self._aliases = {v.name: k for k, v in enumerate(values, 1)}
        self._told = {v.name: (v.content, v.sureness) for v in values}
        rebirth = Metric(datatype_code=payload.BOOLEAN, content=False, name=REBIRTH, utc_ms=utc_ms)
        node = payload.write(utc_ms=utc_ms, seq=0, metrics=[self._bd_seq(utc_ms), rebirth])
        device = payload.write(
            utc_ms=utc_ms,
            seq=self._next_seq(),
            metrics=[self._metric(v, utc_ms, named=True) for v in values],
        )
        return [
            Message(topic=f"spBv1.0/{self._group}/NBIRTH/{self._node}", payload=node),
            Message(
                topic=f"spBv1.0/{self._group}/DBIRTH/{self._node}/{self._device}", payload=device
            ),
        ]

    def data(self, values: Sequence[Value], *, utc_ms: int) -> list[Message]:
        """Say what changed since it was said last; everything anew when the names changed."""
        if {v.name for v in values} != set(self._aliases):
            return self.birth(values, utc_ms=utc_ms)
        changed = [v for v in values if self._told[v.name] != (v.content, v.sureness)]
        if not changed:
            return []
        self._told |= {v.name: (v.content, v.sureness) for v in changed}
        body = payload.write(
            utc_ms=utc_ms,
            seq=self._next_seq(),
            metrics=[self._metric(v, utc_ms, named=False) for v in changed],
        )
        topic = f"spBv1.0/{self._group}/DDATA/{self._node}/{self._device}"
        return [Message(topic=topic, payload=body)]

    def rebirth_wanted(self, body: bytes, *, retained: bool) -> bool:
        """Whether a message on ``commands`` asks for a rebirth that may be granted."""
        if retained:
            return False
        try:
            return payload.read(body).get(REBIRTH) is True
        except payload.PayloadError:
            return False

    def _bd_seq(self, utc_ms: int) -> Metric:
        return Metric(
            datatype_code=payload.INT64, content=self._birth_seq, name="bdSeq", utc_ms=utc_ms
        )

    def _next_seq(self) -> int:
        self._seq = (self._seq + 1) % SEQ_MODULUS
        return self._seq

    def _metric(self, v: Value, utc_ms: int, *, named: bool) -> Metric:
        return Metric(
            datatype_code=payload.datatype_of(v.kind),
            content=v.content if v.sureness is not Sureness.NONE else None,
            name=v.name if named else "",
            alias_number=self._aliases[v.name],
            utc_ms=utc_ms,
            unit=v.unit if named else "",
            stale=v.sureness is Sureness.STALE,
        )
