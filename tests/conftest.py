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
