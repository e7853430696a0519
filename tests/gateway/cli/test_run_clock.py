"""A start on a clock that nobody disciplines says what to do, in one line."""

import pytest

from gateway.cli.run import discipline, only_observing
from gateway.commissioning.clock import UNSYNC_BITS, KernelClock
from gateway.commissioning.runs import passive

CLOCKS = {
    "good": (KernelClock(status_bits=0, error_us_max=50_000, error_us=0), "good", None),
    "far off": (
        KernelClock(status_bits=0, error_us_max=50_001, error_us=0),
        "degraded",
        "only observing: the clock may be off by 50 ms, limit 50 ms. Use a nearer time server",
    ),
    "beyond finishing": (
        KernelClock(status_bits=0, error_us_max=1_000_001, error_us=0),
        "invalid",
        "only observing: the clock may be off by 1000 ms",
    ),
    "undisciplined": (
        KernelClock(status_bits=UNSYNC_BITS, error_us_max=0, error_us=0),
        "invalid",
        "only observing: the kernel says the clock is not synchronised. Install and start chrony, "
        "then wait for: chronyc waitsync; control begins by itself then",
    ),
    "mute": (None, "invalid", "only observing: the kernel does not say how good the clock is. Run"),
}


@pytest.mark.parametrize("name", CLOCKS)
def test_what_the_kernel_says_is_what_the_start_says(monkeypatch, name):
    said, quality, words = CLOCKS[name]
    monkeypatch.setattr(passive, "kernel_clock", lambda: said)
    assert discipline() == quality
    told = only_observing()
    if words is None:
        assert told is None
        return
    assert told.startswith(words)
    assert told.endswith("runtime: {clock: assumed} in the site file")
