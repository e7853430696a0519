"""The trade desk: messages become entries, entries become verdicts, verdicts become answers.

The order is the promise: the entry is durable before the broker hears that the message is ours,
and the verdict is durable before the market hears it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.core import ended, feeder, verify
from gateway.core.planning import interval_fields
from gateway.core.state import Received, State, interval_from
from gateway.model.limits import FeederLimits
from gateway.model.message import Inbound, Readable, Unreadable
from gateway.model.reason import Reason, ReasonCode
from gateway.model.trade import Trade
from gateway.ports import Clock, Market
from gateway.runtime.recorder import Recorder

log = logging.getLogger(__name__)

PAYLOAD_BYTES_MAX = 16_384  # larger messages are refused; the ledger keeps their hash
MESSAGES_PER_SCAN_MAX = 64  # what is left waits unacknowledged with the broker
PARKED_US = 55_000_000  # how long a cancellation may wait for its trade: a minute with the scan
PARKED_MAX = 256  # messages under way; beyond that nothing waits
SAY_AGAIN_MAX = 256  # answers repeated after a restart: what one outage may have swallowed
MAYBE_UNSIGNED = frozenset({
    ReasonCode.UNSIGNED, ReasonCode.SIGNATURE, ReasonCode.SIGNER_UNKNOWN,
    ReasonCode.SIGNERS_TOO_FEW, ReasonCode.PAYLOAD_TYPE, ReasonCode.OVERSIZED, ReasonCode.FORM,
    ReasonCode.MISSING_FIELD, ReasonCode.UNKNOWN_FIELD, ReasonCode.DUPLICATE_KEY,
    ReasonCode.NOT_INTEGER, ReasonCode.OUT_OF_RANGE,
})  # fmt: skip
"""Words under which nobody known may have signed: all that ``dsse.examine`` says beside a body.

Some of them also say that a signed document is at fault; a refusal's entry does not tell which.
"""


class TradeDesk:
    """Takes messages in and gives every one a verdict."""

    def __init__(self, *, market: Market, recorder: Recorder, clock: Clock) -> None:
        self._market = market
        self._recorder = recorder
        self._clock = clock
        self._again: list[tuple[int, Mapping[str, Any], int | None]] = []
        self._accepted: dict[str, tuple[str, int]] = {}  # trade id -> bytes and entry, while read
        self._waiting: dict[str, list[int]] = {}  # trade id -> messages that wait for it

    @property
    def _state(self) -> State:
        return self._recorder.state

    def remember(self, index: int, entry: Mapping[str, Any]) -> None:
        """Keep the last verdicts and reports of earlier runs: they may not have been heard."""
        first: int | None = None
        match entry["kind"]:
            case "trade.accepted":
                self._accepted[entry["trade_id"]] = entry["sha256"], index
            case "trade.refused":
                # As of this entry: a revision that came later takes nothing back.
                sha256, accepted_index = self._accepted.get(entry["trade_id"], ("", -1))
                first = accepted_index if sha256 == entry["sha256"] else None
            case "delivery":
                pass
            case _:
                return
        self._again.append((index, entry, first))
        if len(self._again) > SAY_AGAIN_MAX:
            del self._again[0]

    async def say_again(self) -> None:
        """Repeat the last answers after a start; who has heard them drops them by id."""
        for index, entry, first in self._again:
            if entry["kind"] == "delivery":
                await self.report(index, entry)
            else:
                await self._repeat(index, entry, first)
        self._again.clear()
        self._accepted.clear()

    async def _repeat(self, index: int, entry: Mapping[str, Any], first: int | None) -> None:
        """Say what was said live: a refused repetition hears that its first was accepted."""
        sha256, trade_id = entry["sha256"], entry["trade_id"]
        accepted = entry["kind"] == "trade.accepted"
        reasons = [_reason(r) for r in entry.get("reasons", [])]
        if not accepted and first is None:
            first = self._first_answer(sha256, trade_id)  # longer ago than what is looked back at
        if first is None and not MAYBE_UNSIGNED.isdisjoint(r.code for r in reasons):
            trade_id = None  # in doubt under the message's hash: no stranger's word under a trade
        await self._market.answer(
            message_sha256=sha256,
            trade_id=trade_id,
            revision_number=entry["revision"],
            accepted=accepted or first is not None,
            reasons=reasons,
            ledger_index=index if first is None else first,
        )

    async def take_in(self) -> None:
        """Make waiting messages durable and only then acknowledge them."""
        for _ in range(MESSAGES_PER_SCAN_MAX):
            try:
                inbound = self._market.inbox.get_nowait()
            except asyncio.QueueEmpty:
                return
            sent = self._market.limits(inbound)
            if sent is None:
                await self._recorder.record("trade.received", **received_fields(inbound))
                await self._market.acknowledge(inbound)
            else:
                await self._take_limits(inbound, sent)

    async def _take_limits(self, inbound: Inbound, sent: FeederLimits | list[Reason]) -> None:
        """Write down what a system operator sent, then answer; what is held already is held."""
        sha256 = hashlib.sha256(inbound.payload).hexdigest()
        state = self._state
        if isinstance(sent, FeederLimits) and sent == state.feeder_limits:
            await self._market.acknowledge(inbound)
            index = state.feeder_limits_index
            await self._answer_limits(sha256, sent.sequence_number, [], index)
            return
        fields: dict[str, Any] = {}
        if isinstance(sent, FeederLimits):
            now_ms = self._clock.utc_us() // 1000
            reasons = list(feeder.refusals(sent, state.feeder_limits, state.site.sop, now_ms))
            fields = feeder.fields_of(sent)
        else:
            reasons = sent
        taken = not reasons
        arguments = {
            **fields,
            "sha256": sha256,
            "payload": base64.b64encode(inbound.payload[:PAYLOAD_BYTES_MAX]).decode(),
            "reasons": [r.fields() for r in reasons],
        }
        index = await self._recorder.record(
            "operator",
            user="system-operator",
            verb=feeder.VERB if taken else feeder.REFUSED_VERB,
            arguments=arguments,
            reason="",
        )
        await self._market.acknowledge(inbound)
        log.warning("feeder limits %s entry=%d", "taken" if taken else "refused", index)
        await self._answer_limits(sha256, fields.get("sequence", 0), reasons, index)

    async def _answer_limits(
        self, sha256: str, sequence_number: int, reasons: Sequence[Reason], index: int
    ) -> None:
        await self._market.answer(
            message_sha256=sha256,
            trade_id=None,
            revision_number=sequence_number,
            accepted=not reasons,
            reasons=reasons,
            ledger_index=index,
        )

    async def decide_open(self, *, time_quality: str) -> None:
        """Decide every durable message that has no verdict yet, the oldest first.

        What waited for a trade comes right behind it, before anything later: of two messages
        that contradict each other the first durable one stands (H06).
        """
        self._waiting.clear()
        for received in sorted(self._state.received.values(), key=lambda r: r.index):
            if received.index not in self._state.received:
                continue  # decided behind the trade it waited for
            for trade_id in await self._decide(received, time_quality):
                for index in self._waiting.pop(trade_id, ()):
                    if index in self._state.received:  # it may have waited for several trades
                        await self._decide(self._state.received[index], time_quality)

    async def report(self, index: int, fields: Mapping[str, Any]) -> None:
        """Tell the market what each trade of an interval got."""
        interval = interval_from(fields["interval"])
        for trade in fields["trades"]:
            await self._market.report(
                trade_id=trade["trade_id"],
                interval=interval,
                contracted_wh=trade["contracted_wh"],
                delivered_wh=trade["delivered_wh"],
                status=trade["status"],
                reasons=trade["reasons"],
                ledger_index=index,
            )

    async def _decide(self, received: Received, time_quality: str) -> list[str]:
        """Decide one message as far as that can be; return the trades it brought."""
        if received.size > PAYLOAD_BYTES_MAX:
            detail = f"{received.size} bytes, at most {PAYLOAD_BYTES_MAX}"
            oversized = Reason(code=ReasonCode.OVERSIZED, detail=detail)
            reasons = [oversized]
            if received.retain:
                reasons.append(Reason(code=ReasonCode.RETAINED))
            await self._refuse_message(
                received, Unreadable(sha256=received.sha256, reasons=tuple(reasons))
            )
            return []
        inbound = Inbound(
            topic=received.topic,
            payload=received.payload,
            retain=received.retain,
            qos_level=0,
            connection_seq=0,
            mid_number=0,
        )
        verdict = self._market.read(inbound)
        if isinstance(verdict, Unreadable):
            await self._refuse_message(received, verdict)
            return []
        accepted: list[str] = []
        left = [t for t in verdict.trades if t.id not in received.decided]
        for trade in tuple(left):
            outcome = self._admit(received, trade, verdict.sha256, time_quality)
            if isinstance(outcome, verify.Refused) and self._parked(received, outcome):
                self._waiting.setdefault(trade.id, []).append(received.index)
                continue
            if isinstance(outcome, verify.Accepted):
                accepted.append(trade.id)
            left.remove(trade)
            await self._conclude(received, verdict, trade, outcome, last=not left)
        return accepted

    def _parked(self, received: Received, outcome: verify.Refused) -> bool:
        """Whether a cancellation that overtook its trade still waits for it (H04)."""
        if [r.code for r in outcome.reasons] != [ReasonCode.ORPHAN]:
            return False
        state = self._state
        restarted = received.boot_number != state.boot_number
        since_us = state.boot_mono_us if restarted else received.mono_us
        room = len(state.received) <= PARKED_MAX
        return room and self._clock.mono_us() - since_us < PARKED_US

    async def _refuse_message(self, received: Received, verdict: Unreadable) -> None:
        ids: Sequence[str | None] = verdict.trade_ids or (None,)
        for trade_id in [i for i in ids if i not in received.decided] or ids[-1:]:
            await self._refuse(
                received,
                verdict.sha256,
                trade_id,
                verdict.revision_number,
                verdict.reasons,
                authentic=verdict.authentic,
                last=trade_id is ids[-1],
            )

    def _admit(
        self, received: Received, trade: Trade, sha256: str, time_quality: str
    ) -> verify.Accepted | verify.Refused:
        state = self._state
        return verify.admit(
            trade,
            sha256=sha256,
            sop=state.site.sop,
            policy=state.site.policy,
            earlier=ended.find(state.known, state.over, trade.id),
            intervals=state.schedule.keys(),
            open_count=verify.count_open(state.schedule),
            received_ms=received.utc_us // 1000,
            mode=state.mode,
            time_quality=time_quality,
            planned_ms=state.plans.keys(),
            full=verify.first_full(trade, state.schedule),
        )

    async def _conclude(
        self,
        received: Received,
        message: Readable,
        trade: Trade,
        verdict: verify.Accepted | verify.Refused,
        *,
        last: bool,
    ) -> None:
        if isinstance(verdict, verify.Refused):
            await self._refuse(
                received,
                message.sha256,
                trade.id,
                trade.revision_number,
                verdict.reasons,
                authentic=True,
                last=last,
            )
            return
        index = await self._recorder.record(
            "trade.accepted",
            received_index=received.index,
            sha256=message.sha256,
            trade_id=trade.id,
            revision=trade.revision_number,
            out_terminal=verdict.out_terminal,
            in_terminal=verdict.in_terminal,
            positions=[
                {"interval": interval_fields(p.interval), "p_w": p.p_w, "energy_wh": p.energy_wh}
                for p in trade.positions
            ],
            last=last,
        )
        log.info("trade=%s accepted entry=%d", trade.id, index)
        await self._market.answer(
            message_sha256=message.sha256,
            trade_id=trade.id,
            revision_number=trade.revision_number,
            accepted=True,
            reasons=(),
            ledger_index=index,
        )

    async def _refuse(
        self,
        received: Received,
        sha256: str,
        trade_id: str | None,
        revision_number: int,
        reasons: Sequence[Reason],
        *,
        authentic: bool,
        last: bool,
    ) -> None:
        index = await self._recorder.record(
            "trade.refused",
            received_index=received.index,
            sha256=sha256,
            trade_id=trade_id,
            revision=revision_number,
            reasons=[r.fields() for r in reasons],
            last=last,
        )
        log.info("trade=%s refused entry=%d %s", trade_id, index, [r.code.value for r in reasons])
        first = self._first_answer(sha256, trade_id) if authentic else None
        # An id in a message nobody signed is nobody's word: the answer goes to the message's hash.
        await self._market.answer(
            message_sha256=sha256,
            trade_id=trade_id if authentic else None,
            revision_number=revision_number,
            accepted=first is not None,
            reasons=reasons,
            ledger_index=index if first is None else first,
        )

    def _first_answer(self, sha256: str, trade_id: str | None) -> int | None:
        """Entry that accepted these very bytes: a repetition is told what the first was told."""
        known = ended.find(self._state.known, self._state.over, trade_id or "")
        return known.accepted_index if known is not None and known.same_message(sha256) else None


def received_fields(inbound: Inbound) -> dict[str, Any]:
    """Write a message as its ``trade.received`` entry: the exact bytes, or the hash of too many."""
    fields: dict[str, Any] = {
        "topic": inbound.topic,
        "retain": inbound.retain,
        "size": len(inbound.payload),
        "sha256": hashlib.sha256(inbound.payload).hexdigest(),
    }
    if len(inbound.payload) <= PAYLOAD_BYTES_MAX:
        fields["payload"] = base64.b64encode(inbound.payload).decode()
    return fields


def _reason(fields: Mapping[str, str]) -> Reason:
    return Reason(code=ReasonCode(fields["code"]), detail=fields["detail"])
