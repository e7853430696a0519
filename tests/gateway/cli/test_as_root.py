"""Root at work while the service is stopped: what is left in its folder is the service's."""

import asyncio
import os
import shutil
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes.cabinet import Cabinet

from gateway.commissioning.plan import Level, PlanStore
from gateway.commissioning.sat.record import RunRecord, runs_in
from gateway.hmi import accounts
from gateway.journal.keys import answer_key
from gateway.journal.ledger_journal import LedgerJournal, read_entries
from gateway.runtime.clock import SystemClock
from ledger.log.keys import load_key
from ledger.log.owner import as_owner
from ledger.log.segment import segments
from ledger.log.verify import verify
from ledger.log.writer import LedgerWriter

SERVICE = 61_234  # nobody has to be known by this number
ORIGIN = "elm.example/SOP-1"
PASSWORD = "correct horse battery"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def state():
    """The service's folder, where it alone gets in."""
    folder = Path(tempfile.mkdtemp(prefix="sopgw-state-"))
    os.chown(folder, SERVICE, SERVICE)
    folder.chmod(0o750)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def site(state, tmp_path, monkeypatch):
    """A simulated site; its site file is root's, what it keeps is the service's."""
    cabinet = Cabinet(tmp_path, factor=20)
    text = cabinet.site_text
    assert "ledger: {dir: ledger," in text
    assert "key: {file: ledger.key}" in text
    text = text.replace("dir: ledger,", f"dir: {state}/ledger,")
    text = text.replace("{file: ledger.key}", f"{{file: {state}/ledger.key}}")
    text += "web: {listen: '127.0.0.1:0', accounts: accounts.json}\n"
    (tmp_path / "site.yaml").write_text(text)
    for name in ("SOPGW_CONFIG", "SOPGW_TIMEBASE"):
        monkeypatch.setenv(name, cabinet.env[name])
    yield cabinet
    cabinet.close()


@root_only
def test_a_stop_that_root_leaves_is_the_services_to_read_and_to_remove(site, state, sopgw):
    answer = sopgw("stop", "--json")
    assert (answer.exit_code, answer.json["data"]["way"]) == (0, "station directly")
    (waiting,) = state.iterdir()
    assert waiting.name == "stopped.json"
    assert waiting.stat().st_uid == SERVICE
    assert '"uid:0"' in waiting.read_text(), "and says who stopped"


@contextmanager
def the_service(user=SERVICE):
    """Do something with the rights of the service's user, or of another one."""
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def not_theirs(state):
    return [
        str(p.relative_to(state))
        for p in sorted(state.rglob("*"))
        if (p.lstat().st_uid, p.lstat().st_gid) != (SERVICE, SERVICE)
    ]


async def go_on(state):
    """What the service does at its start and in its work."""
    journal = LedgerJournal.open(
        directory=state / "ledger", origin=ORIGIN, key_file=state / "ledger.key",
        clock=SystemClock(),
    )  # fmt: skip
    await journal.append("alarm", {"code": "A-104", "active": True, "detail": ""})
    vkey = journal.vkey
    await journal.close()
    answer_key(state / "answers.key", None)
    return vkey


@root_only
def test_a_stop_that_cannot_tell_the_station_waits_all_the_same(site, state, sopgw):
    text = site.site_text
    assert "mode: " in text
    (site.folder / "site.yaml").write_text(text.replace("mode: ", "mode: nonsense-"))
    try:
        assert sopgw("stop", "--json").exit_code == 3
        assert (state / "stopped.json").exists()
    finally:
        (site.folder / "site.yaml").write_text(text)


@root_only
def test_who_may_not_reach_the_socket_stops_the_station_and_is_told_that_it_may_not_last(
    site, state, sopgw
):
    """In the package's layout: a folder of mode 0750, and somebody who is not in its group."""
    sopgw("stop", "--json")  # root loads what the other one may not read
    (state / "stopped.json").unlink()
    public = Path(tempfile.mkdtemp(prefix="sopgw-public-"))
    try:
        public.chmod(0o755)
        (public / "site.yaml").write_text(site.site_text)
        with the_service(SERVICE + 1):
            answer = sopgw("stop", "-c", public / "site.yaml", "--json")
            refused = sopgw("status", "-c", public / "site.yaml", "--json")
    finally:
        shutil.rmtree(public)
    assert answer.exit_code == 7, answer.out
    assert answer.json["data"] == {"way": "station directly", "outcome": "executed"}
    (error,) = answer.json["errors"]
    assert error["code"] == "G012"
    assert "may be running that was not told and may command again" in error["message"]
    (error,) = refused.json["errors"]
    assert (error["code"], "adduser" in error["help"]) == ("G005", True)


@root_only
def test_after_commands_of_root_the_service_goes_on(site, state, sopgw, tmp_path):
    secret = tmp_path / "pass"
    secret.write_text(PASSWORD + "\n")
    secret.chmod(0o600)
    usb = tmp_path / "usb"
    for exit_code, *words in (
        (6, "test", "step", "T2", "--to", "25kW"),
        (0, "test", "step", "T2", "--to", "25kW", "--yes"),
        (0, "sat", "new", "--plan", "sop-lv"),
        (0, "sat", "report"),
        (0, "backup", "create", usb, "--passphrase-file", secret),
        (0, "account", "add", "ann", "--role", "viewer", "--password-file", secret),
        (0, "plan", "ls"),
        (0, "trade", "ls"),
        (0, "backup", "ls"),
    ):
        answer = sopgw(*words, "--json")
        assert answer.exit_code == exit_code, (words, answer)
    made = {p.relative_to(state).parts[0] for p in state.rglob("*")}
    assert made >= {"ledger", "ledger.key", "plans", "sat", "backups.jsonl"}
    assert not_theirs(state) == []
    people = site.folder / "accounts.json"
    assert (people.stat().st_uid, stat.S_IMODE(people.stat().st_mode)) == (SERVICE, 0o600)
    count = sum(1 for _ in read_entries(state / "ledger"))
    assert count > 0
    with the_service():
        vkey = asyncio.run(go_on(state))
        store = PlanStore(state / "plans", mono_us=lambda: 0, utc_us=lambda: 1)
        (waiting,) = store.waiting()
        store.cancel(waiting.id)
        store.make(command=["x"], sop="SOP-1", level=Level.MODERATE, lines=[], frames=[],
                   site_sha256="", state={})  # fmt: skip
        (run,) = runs_in(state / "sat")
        RunRecord.open(run, now_us=lambda: 1).begin("1.1")
        with (state / "backups.jsonl").open("a"):
            pass
    assert sum(1 for _ in read_entries(state / "ledger")) == count + 1
    assert verify(state / "ledger", [vkey]).ok
    assert not_theirs(state) == []


@root_only
def test_root_does_not_run_the_gateway_in_the_services_folder(site, state, sopgw):
    (state / "ledger").mkdir()
    os.chown(state / "ledger", SERVICE, SERVICE)
    answer = sopgw("run", "--json")
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (5, "R001")
    assert list((state / "ledger").iterdir()) == []


@root_only
async def test_a_segment_that_begins_while_root_writes_is_the_services(state):
    """The ledger is opened as its owner; what comes later comes while root does other work."""
    directory = state / "ledger"
    key = state / "ledger.key"

    await go_on(state)
    for _ in range(3):
        signer = load_key(key, ORIGIN)
        with as_owner(directory):
            writer = LedgerWriter.open(directory, signer=signer, origin=ORIGIN, segment_bytes=4096)
        for number in range(64):
            await writer.append(b'{"n":%d}' % number)
        (directory / "reserve").unlink()
        await writer.close()
    assert len(segments(directory)) > 3
    assert not_theirs(state) == []
    with the_service():
        vkey = await go_on(state)
    assert verify(directory, [vkey]).ok


@root_only
def test_a_link_in_the_services_folder_leads_root_nowhere(state, tmp_path):
    asyncio.run(go_on(state))
    secret = tmp_path / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    plans = state / "plans"
    plans.symlink_to(tmp_path)
    os.lchown(plans, SERVICE, SERVICE)
    tmp_path.chmod(0o700)
    store = PlanStore(plans, mono_us=lambda: 0, utc_us=lambda: 1)
    with pytest.raises(PermissionError):
        store.make(command=["x"], sop="SOP-1", level=Level.MODERATE, lines=[], frames=[],
                   site_sha256="", state={})  # fmt: skip
    assert {p.name for p in tmp_path.iterdir()} == {"secret"}


@root_only
def test_a_file_of_people_that_root_writes_again_stays_readable_for_the_service(tmp_path):
    path = tmp_path / "accounts.json"
    accounts.write(path, {}, owner=(SERVICE, SERVICE))
    assert (path.stat().st_uid, path.stat().st_gid) == (SERVICE, SERVICE)
