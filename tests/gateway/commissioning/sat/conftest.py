import asyncio
import subprocess

import pytest

from gateway.commissioning.finding import Verdict
from gateway.commissioning.sat import plan, record, walk
from gateway.commissioning.sat.plots import curve
from gateway.commissioning.sat.record import CheckOutcome, Row

DATA = {
    "plan": "sop-test",
    "revision": 3,
    "title": "A plan for tests",
    "steps": [
        {"title": "Clock", "purpose": "time ≤ 50 ms", "checks": [{"run": "check clock"}]},
        {
            "title": "Wiring",
            "hold": "W",
            "checks": [
                {"run": "check wiring {meter} --via {terminal}", "each": "slave"},
                {"manual": "Compare the labels of {station} with the drawing"},
            ],
        },
        {"title": "Watchdog", "hold": "H", "checks": [{"run": "test watchdog {station}"}]},
        {
            "title": "Steps",
            "gated": True,
            "checks": [{"run": "test step {terminal}", "each": "slave"}],
        },
    ],
}
PLACES = [
    plan.Place(terminal="T1", meter="m1", master=True),
    plan.Place(terminal="T2", meter="m2", master=False),
]


RAMP = [(t / 10, min(25.0, max(0.0, t - 10.0))) for t in range(60)]


class Clock:
    def __init__(self, utc_us=1_764_000_000_000_000):
        self.utc_us = utc_us

    def __call__(self):
        self.utc_us += 1_000_000
        return self.utc_us


class Site:
    """Answers checks: ok unless a finding is planted."""

    def __init__(self):
        self.planted = {}
        self.value = "−3.31 kW"
        self.asked = []

    async def execute(self, check):
        self.asked.append(check.id)
        finding = self.planted.get(check.id)
        return CheckOutcome(
            verdict=Verdict.FAULT if finding else Verdict.OK,
            rows=(Row(name="power", value_text=self.value, limit="≤ 5 kW"),),
            findings=(finding,) if finding else (),
            plot_svg=curve(RAMP, RAMP[::20], title=check.title) if "step" in check.run else "",
        )


@pytest.fixture
def bound():
    return plan.bind(plan.read_plan(DATA), sop="SOP-1", station="station", places=PLACES)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def run(tmp_path, bound, clock):
    header = {"site": "Elm Street", "sop": "SOP-1", "phase": "sat", "settings": {"config": "7d1c"}}
    return record.RunRecord.create(
        tmp_path / "2026-11-21-a", plan=bound, header=header, now_us=clock
    )


@pytest.fixture
def site():
    return Site()


@pytest.fixture
def go(run, site):
    def walk_on(**options):
        return asyncio.run(
            walk.walk(run, site.execute, by="engineer", announce=lambda *_: None, **options)
        )

    return walk_on


@pytest.fixture(scope="session")
def agent(tmp_path_factory):
    """A real ssh-agent with two keys, and an allowed_signers file for them."""
    folder = tmp_path_factory.mktemp("ssh")
    socket = folder / "agent.sock"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            assert process.poll() is None
        env = {"SSH_AUTH_SOCK": str(socket), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
        lines = []
        for name in ("engineer@example", "witness@example"):
            key = folder / name
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key], check=True
            )
            subprocess.run(["ssh-add", "-q", str(key)], check=True, env=env)
            public = key.with_name(name + ".pub").read_text()
            lines.append(f'{name} namespaces="sopgw-sat" {public}')
            key.unlink()  # only the agent holds it now
        allowed = folder / "allowed_signers"
        allowed.write_text("".join(lines))
        yield {"socket": str(socket), "folder": folder, "allowed": allowed}
    finally:
        process.terminate()
        process.wait()
