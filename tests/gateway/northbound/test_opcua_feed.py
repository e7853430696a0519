"""The feed of the OPC UA server outlives what it cannot start."""

import asyncio

import pytest

from gateway.northbound import opcua_feed
from gateway.northbound.opcua_feed import OpcuaFeed


async def test_a_door_that_cannot_be_opened_is_tried_again_later(monkeypatch, caplog):
    outcomes = [OSError(12, "Cannot allocate memory"), TimeoutError(), True, OSError(11, "busy")]
    waited_s = []

    async def once(self):
        outcome = outcomes[len(waited_s)]
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    async def pause(seconds):
        waited_s.append(seconds)
        if len(waited_s) == len(outcomes):
            raise asyncio.CancelledError

    monkeypatch.setattr(OpcuaFeed, "_once", once)
    monkeypatch.setattr(opcua_feed, "_pause", pause)
    with pytest.raises(asyncio.CancelledError):
        await OpcuaFeed(None, lambda: None).run()
    assert waited_s == [2, 4, 1, 2]
    assert caplog.text.count("no OPC UA server") == 3
