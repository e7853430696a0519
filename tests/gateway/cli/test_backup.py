"""A site is sealed, lost, and put back; an older ledger is not."""

import asyncio
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from fakes.lost_site import ORIGIN, SECRET, Lost, Seeing

from gateway.cli import backup, backup_box, backup_store
from gateway.journal.anchoring import seen_file
from gateway.journal.ledger_journal import LedgerJournal, read_entries
from gateway.runtime.clock import SystemClock
from ledger.cli import sopledger
from ledger.cli.output import run
from ledger.log import note, reader
from ledger.log.keys import create_key
from ledger.log.treeview import TreeView
from ledger.log.verify import verify


@pytest.fixture
def lost(tmp_path, monkeypatch, sopgw):
    monkeypatch.setattr(backup_box, "MEMORY_KIB", 1024)  # guessing is not what is tested here
    return Lost(tmp_path, sopgw)


@pytest.fixture
def create(lost):
    return lost.create


@pytest.fixture
def restore(lost):
    return lost.restore


def test_what_was_lost_is_back_with_its_modes_and_the_ledger_verifies(create, restore, lost, sopgw):
    before = lost.modes()
    file = create()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shutil.rmtree(lost.folder)
    answer = restore(file)
    assert answer.exit_code == 6, "nothing is written before the site's name is given"
    assert not lost.folder.exists()
    answer = restore(file, "--confirm", "elm")
    assert answer.exit_code == 0, answer
    assert lost.modes() == before
    assert answer.json["data"]["entries"] == 40
    assert sopgw("config", "check", lost.file, "--json").exit_code == 0
    entries = [e for _index, e in read_entries(lost.folder / "ledger")]
    assert [e["arguments"][0] for e in entries[:40]] == list(range(40)), "as it was, then the note"
    assert (len(entries), entries[40]["verb"]) == (41, "backup restore")
    assert answer.json["data"]["entry"] == 40
    assert verify(lost.folder / "ledger", [lost.add(1)]).ok, "and goes on"


def test_a_recipient_needs_no_secret_on_the_gateway(create, restore, lost, sopgw, tmp_path):
    key = tmp_path / "backup.key"
    made = sopgw("backup", "keygen", key, "--json").json["data"]["recipient"]
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    file = create("--recipient", made)
    other = tmp_path / "other.key"
    sopgw("backup", "keygen", other, "--json")
    assert restore(file, opener=("--identity", other)).exit_code == 5
    assert restore(file).exit_code == 5, "no passphrase opens it"
    assert sopgw("backup", "verify", file, "--identity", key, "--json").exit_code == 0


def test_a_recipient_that_is_none_is_told(lost, sopgw, tmp_path):
    answer = sopgw(
        "backup", "create", tmp_path / "usb", "--recipient", "sopgw-recipient-…",
        "-c", lost.file, "--json",
    )  # fmt: skip
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (2, "B001")
    assert not (tmp_path / "usb").exists()


def test_no_secret_and_no_name_of_a_file_is_readable_in_it(create, lost):
    raw = create().read_bytes()
    key = (lost.folder / "ledger.key").read_bytes().splitlines()[1]
    for word in (b"swordfish", key, b"secrets/broker", b"ustar", b"PRIVATE", SECRET.encode()):
        assert word not in raw


def test_every_kind_of_damage_is_seen(create, lost, sopgw, tmp_path):
    good = create().read_bytes()
    header = good.index(b"\n", len(backup_box.MAGIC)) + 1
    places = [0, 20, header - 2, header, (header + len(good)) // 2, len(good) - 1]
    damaged = [good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in places]
    damaged += [good[:-1], good[: header + 40], good + b"\0", good[:header]]
    for number, raw in enumerate(damaged):
        path = tmp_path / f"{number}.sopbackup"
        path.write_bytes(raw)
        answer = sopgw("backup", "verify", path, "--passphrase-file", lost.passphrase, "--json")
        assert answer.exit_code in (5, 8), number
        assert answer.json["errors"][0]["code"] in ("B002", "B009")


def test_chunks_cannot_change_places_or_be_left_out(tmp_path):
    path = tmp_path / "box"
    with path.open("wb") as file:
        box = backup_box.BoxWriter(file, {}, passphrase=SECRET.encode())
        box.write(bytes(3 * backup_box.CHUNK_BYTES + 5))
        box.close()
    raw = path.read_bytes()
    head = raw.index(b"\n", len(backup_box.MAGIC)) + 1
    size = backup_box.CHUNK_BYTES + backup_box.TAG_BYTES
    chunks = [raw[at : at + size] for at in range(head, len(raw), size)]
    assert len(chunks) == 4
    for order in ([1, 0, 2, 3], [0, 2, 3], [0, 1, 2], [0, 1, 2, 2, 3]):
        path.write_bytes(raw[:head] + b"".join(chunks[i] for i in order))
        with path.open("rb") as file, pytest.raises(backup_box.BoxError):
            backup_box.BoxReader(file, box.opener).read()


def test_a_crafted_header_cannot_ask_for_all_memory(create, lost, sopgw, tmp_path):
    raw = create().read_bytes().replace(b'"memory_kib": 1024', b'"memory_kib": 4294967295')
    path = tmp_path / "greedy.sopbackup"
    path.write_bytes(raw)
    answer = sopgw("backup", "verify", path, "--passphrase-file", lost.passphrase, "--json")
    assert (answer.exit_code, "memory" in answer.json["errors"][0]["message"]) == (8, True)


def test_a_header_nested_without_end_is_a_damaged_one(create, lost, sopgw, tmp_path):
    magic = create().read_bytes()[: len(backup_box.MAGIC)]
    path = tmp_path / "deep.sopbackup"
    path.write_bytes(magic + b'{"keys": ' + b"[" * 20_000 + b"\n")
    answer = sopgw("backup", "verify", path, "--passphrase-file", lost.passphrase, "--json")
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (8, "B002")


def test_an_older_ledger_than_a_kept_checkpoint_is_refused(create, restore, lost, tmp_path):
    file = create()
    lost.add(5)
    kept = tmp_path / "kept.json"
    checkpoint = TreeView.open(lost.folder / "ledger").checkpoint.decode()
    kept.write_text(json.dumps({"checkpoint": checkpoint}))
    shutil.rmtree(lost.folder)
    answer = restore(file, "--confirm", "elm", "--receipt", kept)
    assert answer.exit_code == 8
    assert "rolled back" in answer.json["errors"][0]["message"]
    assert not lost.folder.exists()


def test_the_ledger_that_stands_there_is_never_shortened(create, restore, lost):
    file = create()
    lost.add(5)
    answer = restore(file, "--confirm", "elm", "--replace")
    assert answer.exit_code == 8
    assert lost.add(1), "and it goes on as it was"


@pytest.mark.parametrize("kept", ["seen", "receipt"])
@pytest.mark.parametrize("how", ["lost", "moved aside"])
def test_a_ledger_that_is_gone_is_still_spoken_for_by_what_lay_beside_it(
    create, restore, lost, kept, how
):
    file = create()
    lost.add(5)
    ledger = lost.folder / "ledger"
    checkpoint = TreeView.open(ledger).checkpoint
    if kept == "seen":
        seen_file(ledger).write_bytes(checkpoint)
    else:
        (lost.folder / "receipts").mkdir()
        receipt = json.dumps({"checkpoint": checkpoint.decode()})
        (lost.folder / "receipts" / "trd-1.json").write_text(receipt)
    if how == "lost":
        shutil.rmtree(ledger)
    else:
        ledger.rename(lost.folder / "ledger.broken")
    answer = restore(file, "--confirm", "elm", "--replace")
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (8, "B003")
    assert "rolled back" in answer.json["errors"][0]["message"]
    assert not ledger.exists()


def test_what_another_ledger_left_beside_it_keeps_no_backup_out(create, restore, lost, tmp_path):
    file = create()
    shutil.rmtree(lost.folder / "ledger")
    (lost.folder / "receipts").mkdir()
    (lost.folder / "receipts" / "torn.json").write_text('{"checkpoint": ')
    seen_file(lost.folder / "ledger").write_text("oak.example/SOP-1\n7\nAAAA\n\n— x y\n")
    assert restore(file, "--confirm", "elm", "--replace").exit_code == 0


def test_a_receipt_from_between_two_key_changes_keeps_no_backup_out(
    create, restore, lost, monkeypatch
):
    """Its key is neither the first nor the present one: an entry of the ledger named it."""
    monkeypatch.chdir(lost.folder)
    receipts = lost.folder / "receipts"
    receipts.mkdir()
    for number in range(2):
        words = ["key", "rotate", "ledger", "--key-file", "ledger.key"]
        assert run(sopledger, words) == 0
        (lost.folder / "ledger.key.old").rename(lost.folder.parent / f"{number}.key")
        vkey = lost.add(3)
        signed = reader.last_checkpoint(lost.folder / "ledger")
        kept = json.dumps({"checkpoint": signed.decode()})
        (receipts / f"trd-{number}.json").write_text(kept)
    file = create()
    shutil.rmtree(lost.folder / "ledger")
    answer = restore(file, "--confirm", "elm", "--replace")
    assert answer.exit_code == 0, answer
    assert lost.add(1) == vkey
    shutil.rmtree(lost.folder / "ledger")
    stranger = create_key(lost.folder.parent / "stranger.key", ORIGIN)
    text = note.parse(signed).text
    line = note.Signature(
        name=ORIGIN, key_hash=stranger.key.key_hash, blob=stranger.private.sign(text)
    )
    theirs = note.Note(text=text, signatures=(line,)).encode().decode()
    (receipts / "x.json").write_text(json.dumps({"checkpoint": theirs}))
    answer = restore(file, "--confirm", "elm", "--replace")
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (9, "B004"), "a stranger's does"


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A file system of 8 MiB of its own, for temporary files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "sopgw-disk", str(folder)], capture_output=True
    )
    if done.returncode:
        pytest.skip("needs root and mount: " + done.stderr.decode().strip())
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_backup_leaves_the_disk_the_room_that_trading_needs(
    create, restore, lost, sopgw, small_disk
):
    good = create()
    filling = small_disk / "log"
    filling.write_bytes(bytes(8 * 2**20 * 9 // 10 - 4096))  # a tenth is free, and no more
    words = ("--passphrase-file", lost.passphrase, "-c", lost.file, "--json")
    answers = [
        sopgw("backup", "create", lost.usb / "second", *words),
        sopgw("backup", "verify", good, *words[:2], "--json"),
        restore(good),
    ]
    for answer in answers:
        assert (answer.exit_code, answer.json["errors"][0]["code"]) == (5, "B014"), answer
        assert "TMPDIR" in answer.json["errors"][0]["help"]
    assert list(small_disk.iterdir()) == [filling]
    assert list((lost.usb / "second").iterdir()) == [], "half a backup is none"
    filling.unlink()
    assert sopgw("backup", "verify", good, *words[:2], "--json").exit_code == 0


def test_what_stands_in_the_way_is_moved_aside_not_deleted(create, restore, lost):
    file = create()
    lost.file.write_text(lost.file.read_text().replace("Elm Street", "Elm Road"))
    assert restore(file, "--confirm", "elm").exit_code == 5
    assert "Elm Road" in lost.file.read_text()
    answer = restore(file, "--confirm", "elm", "--replace")
    assert answer.exit_code == 0, answer
    assert "Elm Street" in lost.file.read_text()
    assert "Elm Road" in lost.file.with_name("site.yaml.before-restore").read_text()


def test_a_backup_does_not_write_outside_its_folders(create, restore, lost, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "ca.pem").write_text("a certificate\n")
    text = lost.file.read_text()
    lost.file.write_text(
        text.replace("  broker: mqtt:", f"  ca: {elsewhere / 'ca.pem'}\n  broker: mqtts:")
    )
    file = create()
    shutil.rmtree(elsewhere)
    shutil.rmtree(lost.folder)
    answer = restore(file, "--confirm", "elm")
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (5, "B008")
    assert not elsewhere.exists()
    assert restore(file, "--confirm", "elm", "--allow", elsewhere).exit_code == 0
    assert (elsewhere / "ca.pem").read_text() == "a certificate\n"


@pytest.mark.parametrize("where", ["away", "etc", "etc/."])
@pytest.mark.parametrize("confirmed", [(), ("--confirm", "elm")])
def test_a_crafted_name_of_the_ledger_moves_nothing_aside(
    restore, lost, tmp_path, where, confirmed
):
    away = tmp_path / "away"
    away.mkdir()
    (away / "x").write_text("x")
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    manifest = {
        "site": "elm", "made": "m", "version": "1", "site_file": "site/site.yaml", "files": [],
        "ledger": {"name": f"absolute{tmp_path}/{where}", "origin": ORIGIN, "vkeys": [],
                   "witnesses": []},
    }  # fmt: skip
    path = tmp_path / "crafted.sopbackup"
    with path.open("wb") as file:
        box = backup_box.BoxWriter(file, {}, passphrase=SECRET.encode())
        with tarfile.open(mode="w|", fileobj=box) as tar:
            data = json.dumps(manifest).encode()
            info = tarfile.TarInfo("manifest.json")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        box.close()
    answer = restore(path, *confirmed)
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (5, "B008")
    path.unlink()
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


def test_a_ledger_that_was_moved_since_is_still_asked(create, restore, lost, tmp_path):
    lost.add(1)
    file = create()
    lost.add(5)
    moved = tmp_path / "moved"
    shutil.move(lost.folder / "ledger", moved)
    text = lost.file.read_text()
    assert text.count("{dir: ledger,") == 1
    lost.file.write_text(text.replace("{dir: ledger,", f"{{dir: {moved},"))
    answer = restore(file, "--confirm", "elm", "--replace", "--without-witness")
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (8, "B003")
    assert not (lost.folder / "ledger").exists()


def test_a_service_that_writes_keeps_a_restore_out_and_lets_a_backup_through(create, restore, lost):
    async def go():
        journal = LedgerJournal.open(
            directory=lost.folder / "ledger", origin=ORIGIN,
            key_file=lost.folder / "ledger.key", clock=SystemClock(),
        )  # fmt: skip
        file = await asyncio.to_thread(create)
        answer = await asyncio.to_thread(restore, file, "--confirm", "elm", "--replace")
        await journal.close()
        return answer

    assert asyncio.run(go()).exit_code == 5


@pytest.fixture
def witness(lost, tmp_path):
    """A witness that anybody may ask."""
    made = Seeing(lost, tmp_path)
    lost.write_site(made.row)
    yield made.see
    made.end()


def test_a_witness_that_has_seen_more_keeps_an_old_backup_out(create, restore, lost, witness):
    old, newer = lost.older_and_younger(witness)
    shutil.rmtree(lost.folder)
    answer = restore(old, "--confirm", "elm")
    assert answer.exit_code == 8
    assert "rolled back" in answer.json["errors"][0]["message"]
    answer = restore(newer, "--confirm", "elm")
    assert (answer.exit_code, len(answer.json["data"]["asked"])) == (0, 1)


def test_a_silent_witness_is_no_permission(create, restore, lost):
    key = "west.example/witness+b6ad1f70+BFvxnzCjYbe1PHKsJ+EF9kVUNcjKzp1Ys9Ca4Og+Gl3E"
    lost.write_site(f'witnesses: [{{url: "http://127.0.0.1:9", key: "{key}"}}]')
    file = create()
    shutil.rmtree(lost.folder)
    answer = restore(file, "--confirm", "elm")
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (9, "B005")
    answer = restore(file, "--confirm", "elm", "--without-witness")
    assert (answer.exit_code, answer.json["warnings"][0]["code"]) == (0, "B005")


def test_doctor_knows_of_the_last_backup(create, lost, sopgw):
    words = ("doctor", "ledger.backup", "-c", lost.file, "--json")
    (line,) = sopgw(*words).json["data"]["checks"]
    assert line["status"] == "warn"
    create()
    (line,) = sopgw(*words).json["data"]["checks"]
    assert (line["status"], "40 entries" in line["text"]) == ("ok", True)


def test_the_list_says_what_is_gone(create, lost, sopgw):
    create().unlink()
    (row,) = sopgw("backup", "ls", "-c", lost.file, "--json").json["data"]["backups"]
    assert (row["present"], row["entries"]) == (False, 40)


def test_a_line_of_the_list_that_was_cut_hides_no_backup(create, lost, sopgw):
    create()
    with (lost.folder / backup_store.RECORD).open("ab") as record:
        record.write(b'7\n{"made": "2026"}\n{"made": "20\xff')
    answer = sopgw("backup", "ls", "-c", lost.file, "--json")
    assert (answer.exit_code, len(answer.json["data"]["backups"])) == (0, 1)
    words = ("doctor", "ledger.backup", "-c", lost.file, "--json")
    (line,) = sopgw(*words).json["data"]["checks"]
    assert "40 entries" in line["text"]


def test_a_backup_is_on_the_medium_before_it_is_read_back_and_so_is_its_name(
    create, lost, monkeypatch
):
    done, fsync, read_back = [], os.fsync, backup._read_back

    def noted(descriptor):
        done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def read(file, opener):
        done.append("read back")
        return read_back(file, opener)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(backup, "_read_back", read)
    file = create()
    assert done == [file.with_suffix(".partial"), "read back", lost.usb]


def test_short_and_missing_passphrases_are_refused(lost, sopgw):
    lost.passphrase.write_text("1234\n")
    answer = sopgw(
        "backup",
        "create",
        lost.usb,
        "--passphrase-file",
        lost.passphrase,
        "-c",
        lost.file,
        "--json",
    )
    assert answer.exit_code == 2
    answer = sopgw("backup", "create", lost.usb, "-c", lost.file, "--json")
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (2, "B001")


def test_every_file_that_the_site_names_goes_along(create, restore, lost, tmp_path):
    """An encrypted key, its passphrase, a certificate: whatever the site file points at."""
    (lost.folder / "deep").mkdir()
    (lost.folder / "deep" / "words").write_text("a passphrase for the key\n")
    (lost.folder / "deep" / "words").chmod(0o600)
    (lost.folder / "deep" / "ca.crt").write_text("a certificate\n")
    text = lost.file.read_text().replace("  broker: mqtt:", "  ca: deep/ca.crt\n  broker: mqtts:")
    text = text.replace(
        "key: {file: ledger.key}, checkpoint",
        "key: {file: ledger.key}, passphrase: {file: deep/words}, checkpoint",
    )
    lost.file.write_text(text)
    before = lost.modes()
    assert {"deep/words", "deep/ca.crt"} <= before.keys()
    file = create()
    shutil.rmtree(lost.folder)
    assert restore(file, "--confirm", "elm").exit_code == 0
    assert lost.modes() == before


def test_profiles_and_capabilities_that_the_site_names_go_along(create, restore, lost, sopgw):
    shipped = Path(__file__).resolve().parents[3] / "configs" / "profiles"
    deep = lost.folder / "deep"
    deep.mkdir()
    shutil.copy(shipped / "sop-station-v1.yaml", deep)
    corners = ("{p: 230 kW, q: 0 var}", "{p: 0 W, q: 200 kvar}",
               "{p: -230 kW, q: 0 var}", "{p: 0 W, q: -200 kvar}")  # fmt: skip
    lines = ["terminal: T2", "s: 250 kVA", "corners:", *(f"  - {c}" for c in corners)]
    (deep / "T2.yaml").write_text("\n".join(lines) + "\n")
    text = lost.file.read_text()
    text = text.replace("profile: sop-station-v1,", "profile: deep/sop-station-v1.yaml,")
    text = text.replace("T2: {index: 1,", "T2: {index: 1, capability: deep/T2.yaml,")
    assert text.count("deep/") == 2
    lost.file.write_text(text)
    before = lost.modes()
    file = create()
    shutil.rmtree(lost.folder)
    assert restore(file, "--confirm", "elm").exit_code == 0, "and nothing shipped goes along"
    assert lost.modes() == before
    assert sopgw("config", "check", lost.file, "--json").exit_code == 0


def rows_of(file, folder):
    """The manifest's rows of a backup."""
    with file.open("rb") as stream:
        opener = backup_box.Opener(passphrase=SECRET.encode())
        return backup_store.read(stream, opener, folder).manifest["files"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_backup_says_which_files_were_the_services_own(create, lost, tmp_path):
    assert not [r for r in rows_of(create(), tmp_path / "a") if "service" in r], "it was root"
    for path in (lost.folder / "ledger", lost.folder / "secrets" / "broker"):
        os.chown(path, 65_534, 65_534)
    lost.usb = lost.usb / "second"
    own = [r["name"] for r in rows_of(create(), tmp_path / "b") if r.get("service")]
    assert own == ["site/secrets/broker"]
