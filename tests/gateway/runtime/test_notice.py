"""What the service manager hears, over a real datagram socket."""

import socket

import pytest
from fakes.core import make_policy, make_sop

from gateway.core.state import Moment, Site, State
from gateway.model.reason import Reason, ReasonCode
from gateway.runtime.clock import SystemClock
from gateway.runtime.notice import STATUS_CHARS_MAX, ServiceManager, ServiceNotice, status_text


@pytest.fixture
def heard(tmp_path):
    """The manager's end: call it for the next datagram as a mapping, None when there is none."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "notify"))
    listening.setblocking(False)

    def receive():
        try:
            text = listening.recv(4096).decode()
        except BlockingIOError:
            return None
        return dict(line.split("=", 1) for line in text.splitlines())

    receive.path = str(tmp_path / "notify")
    yield receive
    listening.close()


def make_state(*moments):
    site = Site(
        site="demo", sop=make_sop(), policy=make_policy(), rearm="auto", owner_id=1,
        ramp_permille_per_s=200,
    )  # fmt: skip
    state = State(site)
    state.moments.extend(moments)
    return state


class Counting:
    """A scan as far as the notice sees it."""

    def __init__(self, *moments):
        self.count, self.lent = 0, ""
        self.state = make_state(*moments)

    def notice(self, manager):
        return ServiceNotice(
            manager=manager,
            clock=SystemClock(),
            state=lambda: self.state,
            scans_count=lambda: self.count,
            lent=lambda: self.lent,
        )


def observing(detail="silent"):
    reason = Reason(code=ReasonCode.LINK_LOST, detail=detail)
    return Moment(utc_us=0, state="OBSERVE", reasons=(reason,))


def test_ready_comes_with_the_first_whole_scan_and_not_before(heard):
    scan, manager = Counting(observing()), ServiceManager(heard.path)
    notice = scan.notice(manager)
    notice.look()
    assert heard() is None
    scan.count = 1
    notice.look()
    assert heard() == {
        "WATCHDOG": "1", "READY": "1", "STATUS": "OBSERVE, mode off: link_lost: silent",
    }  # fmt: skip
    manager.close()


def test_only_a_scan_that_ended_feeds_the_watchdog(heard):
    scan, manager = Counting(observing()), ServiceManager(heard.path)
    notice = scan.notice(manager)
    scan.count = 1
    notice.look()
    heard()
    notice.look()
    assert heard() is None, "no scan ended since"
    scan.count = 2
    notice.look()
    assert heard() == {"WATCHDOG": "1"}
    manager.close()


def test_a_changed_state_is_told_once(heard):
    scan, manager = Counting(observing()), ServiceManager(heard.path)
    notice = scan.notice(manager)
    scan.count = 1
    notice.look()
    heard()
    scan.state.moments.append(Moment(utc_us=1, state="READY", reasons=()))
    for count in (2, 3):
        scan.count = count
        notice.look()
    assert heard() == {"WATCHDOG": "1", "STATUS": "READY, mode off"}
    assert heard() == {"WATCHDOG": "1"}
    manager.close()


def test_power_is_told_before_it_moves_not_at_the_next_look(heard):
    scan, manager = Counting(observing()), ServiceManager(heard.path)
    notice = scan.notice(manager)
    scan.state.moments.append(Moment(utc_us=1, state="EXECUTING", reasons=()))
    notice.take(7, {"kind": "mode"})
    assert heard() is None, "before READY nothing is said"
    scan.count = 1
    notice.look()
    heard()
    scan.state.moments.append(Moment(utc_us=2, state="READY", reasons=()))
    notice.take(8, {"kind": "reading"})
    assert heard() is None
    notice.take(9, {"kind": "mode"})
    notice.take(10, {"kind": "mode"})
    assert heard() == {"STATUS": "READY, mode off"}
    assert heard() is None
    manager.close()


def test_lent_control_is_told_at_once_for_others_may_move_power_then(heard):
    scan, manager = Counting(observing()), ServiceManager(heard.path)
    notice = scan.notice(manager)
    scan.count = 1
    notice.look()
    heard()
    scan.lent = "uid:0: sopgw test sweep T2"
    notice.take(7, {"kind": "operator", "verb": "borrow"})
    assert heard() == {
        "STATUS": "OBSERVE, mode off, control lent to uid:0: sopgw test sweep T2: link_lost: silent"
    }
    for verb in ("return", "control.lost"):
        scan.lent = ""
        notice.take(8, {"kind": "operator", "verb": verb})
        assert heard() == {"STATUS": "OBSERVE, mode off: link_lost: silent"}
        scan.lent = "uid:0: again"
        notice.take(9, {"kind": "operator", "verb": "borrow"})
        assert "control lent to uid:0" in heard()["STATUS"]
    notice.take(10, {"kind": "operator", "verb": "stop"})
    assert heard() is None
    manager.close()


def test_that_control_is_lent_is_never_cut_off():
    text = status_text(make_state(observing("x" * 500)), "uid:0: " + "y" * 500)
    assert "control lent to uid:0" in text
    assert "link_lost" in text, "nor is why nothing is commanded"
    assert len(text) == STATUS_CHARS_MAX


def test_the_status_is_one_line_whatever_a_reason_says():
    text = status_text(make_state(observing("two\nlines " + "x" * 500)))
    assert "\n" not in text
    assert len(text) == STATUS_CHARS_MAX
    assert status_text(make_state()) == "INIT"


def test_nobody_listening_is_no_trouble(tmp_path):
    gone = ServiceManager(str(tmp_path / "nobody"))
    gone.tell(READY="1")
    gone.close()
    gone.tell(READY="1")
    silent = ServiceManager.from_environment({})
    silent.tell(READY="1")
    assert not silent.listens


def test_an_abstract_address_is_understood():
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind("")  # the kernel picks an abstract name
    name = listening.getsockname().decode()
    manager = ServiceManager.from_environment({"NOTIFY_SOCKET": "@" + name[1:]})
    manager.tell(READY="1")
    assert listening.recv(100) == b"READY=1"
    manager.close()
    listening.close()


async def test_the_end_is_told(heard):
    import asyncio

    scan, manager = Counting(observing()), ServiceManager(heard.path)
    scan.count = 1
    running = asyncio.create_task(scan.notice(manager).run())
    async with asyncio.timeout(60):
        while (first := heard()) is None:
            await asyncio.sleep(0)
    assert first["READY"] == "1"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert heard()["STOPPING"] == "1"
    manager.close()
