"""The whole gateway with a witness on loopback: anchored while it runs, refused when set back."""

import asyncio
import os
import shutil
import signal
import sys
from contextlib import asynccontextmanager, nullcontext

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import app
from gateway.cli import demo_bench
from gateway.cli.demo_bench import Ports
from gateway.config.site_file import load_site
from gateway.journal.anchoring import seen_file
from gateway.journal.keys import is_protected
from gateway.journal.ledger_journal import read_entries
from gateway.model.errors import ConfigError, JournalError
from gateway.runtime.clock import SystemClock
from gateway.runtime.latch import leave
from ledger.log import checkpoint, note, segment
from ledger.log.cosign import Cosigner
from ledger.network.witness import Witness

COSIGNER = Cosigner.ed25519(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), "w.example/w")


def site_of(folder, port):
    """A site whose devices and broker do not answer, with one witness."""
    signer = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    ports = Ports(station_port=9, meter_ports=(1, 2, 3, 4), broker_port=5)
    (folder / "passphrase").write_text("rain on the roof\n")
    (folder / "passphrase").chmod(0o600)
    text = demo_bench.site_text(ports, signer).replace(
        "checkpoint: {every: 10 s}, witnesses: []",
        "checkpoint: {every: 1 s}, passphrase: {file: passphrase}, "
        f"witnesses: [{{url: 'http://127.0.0.1:{port}', key: '{COSIGNER.key.vkey}'}}]",
    )
    (folder / "site.yaml").write_text(text)
    return load_site(folder / "site.yaml")


async def serve(witness, port=0):
    runner = web.AppRunner(witness.application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner


async def run(site, until):
    """Run the gateway until a condition holds of its parts, then ask it to stop."""
    seen = None

    @asynccontextmanager
    async def beside(parts):
        nonlocal seen
        seen = parts

        async def watch():
            while not until(parts):
                await asyncio.sleep(0.05)
            os.kill(os.getpid(), signal.SIGTERM)

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(watch())
            yield

    await app.run(site, sop_id=None, clock=SystemClock(), mode=None, beside=beside)
    return seen


@pytest.mark.parametrize(
    ("error", "code"), [(AssertionError("a defect"), "gateway_restart"), (None, "operator")]
)
async def test_the_last_word_says_who_ended_it_and_only_a_stop_counts_as_one(tmp_path, error, code):
    site = site_of(tmp_path, 9)

    def until(parts):
        if error is not None and parts.scan.scans_count:
            parts.poller.poll = broken
        return error is None and parts.scan.scans_count

    async def broken():
        raise error

    with nullcontext() if error is None else pytest.raises(BaseExceptionGroup):
        await run(site, until)
    entries = [e for _, e in read_entries(site.ledger.dir)]
    assert entries[-1]["state"] == "OFF"
    assert [r["code"] for r in entries[-1]["reasons"]] == [code]
    await run(site, lambda parts: parts.scan.scans_count)
    boots = [e for _, e in read_entries(site.ledger.dir) if e["kind"] == "boot"]
    assert [b["clean"] for b in boots] == [True, error is None]


async def test_a_stop_that_was_left_is_taken_before_the_first_scan(tmp_path):
    site = site_of(tmp_path, 9)
    await run(site, lambda parts: parts.scan.scans_count)
    waiting = app.control_path(site).with_name("stopped.json")
    leave(waiting, user="uid:1000")
    parts = await run(site, lambda parts: parts.scan.scans_count)
    assert parts.recorder.state.armed is False
    assert not waiting.exists()
    entries = [e for _, e in read_entries(site.ledger.dir)]
    last_boot = max(i for i, e in enumerate(entries) if e["kind"] == "boot")
    kinds = [e["kind"] for e in entries[last_boot:]]
    assert kinds[:3] == ["boot", "config", "operator"]
    assert (entries[last_boot + 2]["verb"], entries[last_boot + 2]["user"]) == ("stop", "uid:1000")
    third = await run(site, lambda parts: parts.scan.scans_count)
    assert third.recorder.state.armed is False, "and the ledger keeps it"


async def test_a_ledger_that_fails_in_any_task_ends_as_one(tmp_path):
    site = site_of(tmp_path, 9)

    def until(parts):
        if parts.scan.scans_count:
            parts.meter_poller._poll = failing
        return False

    async def failing(*_):
        raise JournalError("reading not written")

    with pytest.raises(JournalError, match="reading not written"):
        await run(site, until)
    entries = [e for _, e in read_entries(site.ledger.dir)]
    assert all(e.get("state") != "OFF" for e in entries), "nothing more is written"


@pytest.mark.parametrize("open_work", [True, False])
async def test_open_work_of_another_sop_is_not_carried_out_here(tmp_path, open_work):
    site = site_of(tmp_path, 9)
    parts = app.assemble(site, site.sops[0], SystemClock())
    await parts.recorder.record("boot", **app.boot_fields(parts.recorder.state))
    if open_work:
        fields = {"trade_id": "a", "revision": 1, "sha256": "0" * 64, "received_index": 0}
        interval = {"start": "2030-01-01T00:00Z", "end": "2030-01-01T00:15Z"}
        await parts.recorder.record(
            "trade.accepted", **fields, out_terminal="T2", in_terminal="T3", last=True,
            positions=[{"interval": interval, "p_w": 40_000, "energy_wh": 10_000}],
        )  # fmt: skip
    await parts.journal.close()
    text = (tmp_path / "site.yaml").read_text()
    (tmp_path / "site.yaml").write_text(text.replace("  SOP-1:\n", "  SOP-2:\n"))
    other = load_site(tmp_path / "site.yaml")
    if open_work:
        with pytest.raises(ConfigError, match="open intervals or instructions of SOP-1 of site"):
            app.assemble(other, other.sops[0], SystemClock())
    else:
        await app.assemble(other, other.sops[0], SystemClock()).journal.close()


async def test_a_running_gateway_is_witnessed_and_an_older_copy_does_not_start(tmp_path):
    witness = Witness(
        tmp_path / "witness", cosigners=[COSIGNER], logs=(), unix_s=lambda: 1_800_000_000
    )
    runner = await serve(witness)
    port = runner.addresses[0][1]
    site = site_of(tmp_path, port)
    folder = site.ledger.dir
    try:
        first = await run(site, until=lambda parts: parts.journal.status().size > 2)
        assert first.journal.status().anchored is False, "the witness does not know this log yet"
        assert is_protected(site.ledger.key_file)
        assert is_protected(site.ledger.answer_key_file)
        (config,) = [e for _, e in read_entries(folder) if e["kind"] == "config"]
        assert config["sha256"] == site.sha256, "the site file as it was is named in the ledger"
        shutil.copytree(folder, tmp_path / "older")

        await runner.cleanup()
        vkey = segment.read_header(segment.segments(folder)[0]).vkey
        witness = Witness(
            tmp_path / "witness",
            cosigners=[COSIGNER],
            logs=[note.parse_vkey(vkey)],
            unix_s=lambda: 1_800_000_000,
        )
        runner = await serve(witness, port)
        known = first.journal.status().size
        second = await run(site, until=lambda parts: parts.journal.status().anchored_size > known)
        assert second.journal.status().anchored is True

        shutil.rmtree(folder)
        (tmp_path / "older").rename(folder)
        seen_file(folder).unlink()
        with pytest.raises(JournalError, match="rolled back"):
            await run(site, until=lambda parts: True)
    finally:
        await runner.cleanup()


async def test_an_older_copy_with_its_older_key_does_not_start_after_a_key_change(tmp_path):
    site = site_of(tmp_path, 9)
    folder, key = site.ledger.dir, site.ledger.key_file
    first = await run(site, until=lambda parts: parts.scan.scans_count)
    shutil.copytree(folder, tmp_path / "older")
    words = ("key", "rotate", folder, "--key-file", key)
    for option in ("--passphrase-file", "--new-passphrase-file"):
        words += (option, tmp_path / "passphrase")
    rotating = await asyncio.create_subprocess_exec(sys.executable, "-m", "ledger", *words)
    assert await rotating.wait() == 0
    known = first.journal.status().size

    def published(parts):
        seen = checkpoint.parse(seen_file(folder).read_bytes()) if parts.scan.scans_count else None
        return seen is not None and seen.checkpoint.size > known + 1

    await run(site, until=published)
    seen = seen_file(folder).read_bytes()
    shutil.rmtree(folder)
    (tmp_path / "older").rename(folder)
    key.with_suffix(".key.old").replace(key)
    with pytest.raises(JournalError, match="rolled back"):
        await run(site, until=lambda parts: parts.scan.scans_count)
    assert seen_file(folder).read_bytes() == seen, "and what is known is not forgotten"
