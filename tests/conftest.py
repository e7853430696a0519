"""Fixtures and rules for every test."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))  # `fakes` is a package of the tests

# Started in the background by a shell, programs inherit that Ctrl-C is ignored; ours must hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Properties search for counter-examples; a slow machine is none.
settings.register_profile(
    "house", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("house")

# Files of whole stories, longest first: begun last, one of them would keep a core waiting at the end.
LONGEST = (
    *("hil/test_demo.py", "hil/test_surroundings.py", "hil/test_kill.py"),
    "gateway/commissioning/test_whole_session.py",
    *("hil/test_opcua.py", "contract/test_station.py", "hil/test_market_node.py"),
    *("dst/test_planted.py", "gateway/commissioning/runs/test_wire.py"),
    "gateway/cli/test_no_write_without_consent.py",
    *("gateway/northbound/test_opcua_server.py", "gateway/devices/opcua/test_trouble.py"),
    *("ledger/test_faults.py", "gateway/hmi/test_browser.py", "ledger/cli/test_node_and_round.py"),
    "gateway/commissioning/test_through_the_service.py",
    *("hil/test_refusals.py", "soak/test_soak.py"),
)


def pytest_collection_modifyitems(items):
    """Begin with the longest files; within a file the order stays."""
    here = Path(__file__).parent
    place = {here / name: n for n, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(autouse=True)
async def no_task_is_left_behind(request):
    """A test that leaves a task pending left something half done."""
    if not asyncio.iscoroutinefunction(getattr(request, "function", None)):
        yield
        return
    before = asyncio.all_tasks()
    yield
    own = asyncio.current_task()  # the one that runs this very line
    left = [t for t in asyncio.all_tasks() - before if t is not own and not t.done()]
    assert left == [], f"pending tasks: {left}"
    assert await open_connections() == [], "connections left open"


async def open_connections():
    """What the loop still watches once all that is closing had a second to close.

    Left open it would be found by the collector, in whatever test then runs.
    """
    loop = asyncio.get_running_loop()
    for _ in range(100):
        watched = [k for k in loop._selector.get_map().values() if k.fd != loop._ssock.fileno()]
        if not watched:
            break
        await asyncio.sleep(0.01)
    return [str(watch.data) for watch in watched]
