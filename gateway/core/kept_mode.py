"""The mode that a person set since the last orderly end: it outlives a crash of the gateway.

The site file counts at an orderly start and where it was changed since; a crash grants nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.model.reason import ReasonCode

MODES_BY_LEAVE = ("off", "blocked", "test-blocked", "test", "on")  # what each allows, rising


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptMode:
    """What the site file said at the last start, and what a person asked for since; "" nothing."""

    configured: str = ""
    asked: str = ""


def after(before: KeptMode, entry: Mapping[str, Any]) -> KeptMode:
    """Take one entry in."""
    match entry["kind"]:
        case "config":
            return replace(before, configured=entry["config"].get("mode", ""))
        case "boot" if entry["clean"]:
            return replace(before, asked="")
        case "mode" if was_stopped(entry):
            return replace(before, asked="")
        case "operator" if entry["verb"] == "mode":
            return replace(before, asked=str(entry["arguments"]["mode"]))
    return before


def at_start(kept: KeptMode, mode: str) -> str:
    """The site file's mode, or what a person set and allows less.

    Where the file says another mode than at the last start, somebody has decided anew.
    """
    if kept.configured != mode or not kept.asked:
        return mode
    return min(mode, kept.asked, key=MODES_BY_LEAVE.index)


def was_stopped(last: Mapping[str, Any]) -> bool:
    """Tell whether an entry is the goodbye of a gateway that was asked to stop."""
    if (last["kind"], last.get("state")) != ("mode", "OFF"):
        return False
    return all(reason["code"] == ReasonCode.OPERATOR for reason in last["reasons"])
