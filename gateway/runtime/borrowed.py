"""Checks the entries of a commissioning session that borrowed control: word by word, limits too.

The service writes them and folds them as its own, so nothing may come in that its state does not
know, and no setpoint that its limits forbid: the site's, those agreed by two engineers, those a
system operator sent. The master is told no power; what it carries for the others counts as its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from gateway.core import feeder
from gateway.core.access import ALLOWED
from gateway.core.dispatch import Event
from gateway.core.headroom import master_w
from gateway.core.state import State
from gateway.model.interval import Interval
from gateway.model.terminal import Sop

OUTCOMES = frozenset({Event.EXECUTED, Event.REJECTED, Event.EXPIRED, Event.FAILED, Event.UNKNOWN})
_INTENT = {
    "sop": str, "instr_id": int, "authority": str, "plan_index": int, "setpoints": list,
    "ramp_permille_per_s": int, "ttl_s": int, "staged": str, "expires_mono_us": int,
}  # fmt: skip
_SETPOINT = {"terminal": str, "mode": str, "p_w": int, "q_var": int}
_OUTCOME = {"intent_index": int, "instr_id": int, "outcome": str, "active": dict, "reasons": list}
_OPERATOR = {"user": str, "verb": str, "arguments": list, "reason": str}


class BadRecord(ValueError):  # noqa: N818 - a refusal
    """An entry that a borrower may not write."""


def checked_record(
    request: Mapping[str, Any], state: State, intents: Collection[int], *, user: str, utc_ms: int
) -> tuple[str, dict[str, Any]]:
    """Return kind and fields of an entry a borrower may write now; BadRecord otherwise."""
    if request["verb"] != "record":
        raise BadRecord(f"while control is lent there is no {request['verb']}")
    kind, fields = request["kind"], request["fields"]
    match kind:
        case "intent":
            _shaped(fields, _INTENT)
            _intent(fields, state, utc_ms)
        case "outcome":
            _shaped(fields, _OUTCOME)
            if fields["intent_index"] not in intents:
                raise BadRecord("an outcome of an intent of this session is wanted")
            if fields["outcome"] not in OUTCOMES:
                raise BadRecord(f"no such outcome: {fields['outcome']}")
            _powers(fields["active"])
        case "operator":
            _shaped(fields, _OPERATOR)
            if fields["verb"] in ALLOWED:
                raise BadRecord(f"{fields['verb']} is an order, not a note")
            fields = {**fields, "user": user}
        case _:
            raise BadRecord(f"no entries of kind {kind} from a session")
    return kind, dict(fields)


def _shaped(fields: object, wanted: Mapping[str, type]) -> None:
    """Exactly these keys, of these types; a bool is no number."""
    if not isinstance(fields, dict) or fields.keys() != wanted.keys():
        raise BadRecord(f"wanted are {', '.join(wanted)}")
    for key, kind in wanted.items():
        if not isinstance(fields[key], kind) or isinstance(fields[key], bool):
            raise BadRecord(f"{key} is not of type {kind.__name__}")


def _intent(fields: Mapping[str, Any], state: State, utc_ms: int) -> None:
    if fields["authority"] != "operator" or fields["plan_index"] != -1:
        raise BadRecord("a session acts as the operator, without a plan")
    if fields["sop"] != state.site.sop.id:
        raise BadRecord(f"this gateway serves {state.site.sop.id}")
    life_ms = 1000 * max(1, fields["ttl_s"])
    sop = feeder.narrowed(state.site.sop, state.feeder_limits, Interval(utc_ms, utc_ms + life_ms))
    terminals = {t.id: t for t in sop.terminals}
    powers_w = dict.fromkeys(terminals, 0)
    for row in fields["setpoints"]:
        _shaped(row, _SETPOINT)
        terminal = terminals.get(row["terminal"])
        if terminal is None:
            raise BadRecord(f"no terminal {row['terminal']}")
        if not terminal.p_w_min <= row["p_w"] <= terminal.p_w_max:
            raise BadRecord(
                f"{terminal.id} is limited to {terminal.p_w_min} … {terminal.p_w_max} W"
            )
        powers_w[terminal.id] = row["p_w"]
    _master(powers_w, sop, state.site.sop)


def _master(powers_w: Mapping[str, int], sop: Sop, site: Sop) -> None:
    """Hold what the master carries for the others against its own limits.

    Against the site's without the losses: a test goes to a terminal's full power for minutes. A
    system operator's limit is of what the feeder sees, so there the losses count.
    """
    master, own = sop.terminal(sop.master), site.terminal(site.master)
    sum_w = sum(powers_w[t.id] for t in sop.slaves)
    seen_w = -master_w(sop, powers_w) if sum_w > 0 else -sum_w
    in_site = own.p_w_min <= -sum_w <= own.p_w_max
    sent = (master.p_w_min, master.p_w_max) != (own.p_w_min, own.p_w_max)
    if not in_site or (sent and not master.p_w_min <= seen_w <= master.p_w_max):
        raise BadRecord(
            f"{master.id} carries the rest, {-sum_w} W, and is limited to "
            f"{master.p_w_min} … {master.p_w_max} W"
        )


def _powers(active: Mapping[object, object]) -> None:
    if not all(isinstance(k, str) and isinstance(v, int) for k, v in active.items()):
        raise BadRecord("active is W by terminal")
