"""A planted site with a running service of its own, as processes."""

import contextlib
import subprocess
import sys
import time

from fakes.cabinet import Cabinet

from gateway.journal.ledger_journal import read_entries


@contextlib.contextmanager
def serving(folder, *, mode="test", factor=3, extra=""):
    """A cabinet and its gateway; ``extra`` is added to the site file."""
    found = Cabinet(folder, factor=factor)
    if extra:
        with (folder / "site.yaml").open("a") as file:
            file.write(extra)
    try:
        with started(found, mode=mode):
            until((folder / "sopgw.sock").exists)
            yield found
    finally:
        found.close()


@contextlib.contextmanager
def started(site, *, mode="test"):
    """A gateway of a cabinet, as a process."""
    folder = site.folder
    with (folder / "gateway.log").open("wb") as log, (folder / "gateway.out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "run", "--json", "--mode", mode,
             "--timebase", str(folder / "timebase.json")],
            env=site.env, stderr=log, stdout=out,
        )  # fmt: skip
        site.process_of_gateway = process
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=30)


def entries(site, *kinds):
    """The entries of some kinds, as they stand in the ledger now."""
    return [e for _, e in read_entries(site.folder / "ledger") if e["kind"] in kinds]


def status(sopgw):
    """What the program says of the running service."""
    return sopgw("status", "--json").json["data"]


def until(condition, within_s=180):
    """Wait for a condition in real time."""
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come about")
