"""Files go back to where they belong and to whom they belonged."""

import os
import stat

import pytest

from gateway.cli import backup_restore, backup_store


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_root_puts_back_belongs_to_the_folders_owner_or_whom_it_names(tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 65_534, 65_534)
    source = tmp_path / "source"
    source.write_bytes(b"x")

    def place(name):
        target = state / name / "segments" / "0.seg"
        return backup_restore.Place(name=name, source=source, target=target, mode=0o600)

    backup_restore.put([place("ledger")], ledger=state / "ledger")
    named = backup_restore.owner_named("daemon")
    backup_restore.put([place("other")], ledger=state / "other", owner=named)
    for name, uid in (("ledger", 65_534), ("other", named[0])):
        made = [state / name, *sorted((state / name).rglob("*"))]
        assert [p.stat().st_uid for p in made] == [uid] * 3
    with pytest.raises(backup_store.BackupError, match="no user"):
        backup_restore.owner_named("nobody-of-that-name")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_was_the_services_own_is_its_own_again_whosever_folder_it_lies_in(tmp_path):
    state, site = tmp_path / "state", tmp_path / "etc"
    state.mkdir()
    site.mkdir()
    os.chown(state, 65_534, 65_534)
    source = tmp_path / "source"
    source.write_bytes(b"x")

    def place(name, *, of_service):
        return backup_restore.Place(
            name=name, source=source, target=site / name, mode=0o600, of_service=of_service
        )

    def put():
        backup_restore.put(
            [
                place("accounts.json", of_service=True),
                place("deep/own.key", of_service=True),
                place("secrets/broker", of_service=False),
            ],
            ledger=state / "ledger",
        )

    put()
    os.chown(site / "accounts.json", 0, 0)
    put()  # as it is already, but not whose it is
    found = {str(p.relative_to(site)): p.stat() for p in site.rglob("*")}
    assert {n: s.st_uid for n, s in found.items()} == {
        "accounts.json": 65_534, "deep": 0, "deep/own.key": 65_534, "secrets": 0, "secrets/broker": 0,
    }  # fmt: skip
    assert stat.S_IMODE(found["deep"].st_mode) == 0o755, "or it could not get at its own"
    assert stat.S_IMODE(found["secrets"].st_mode) == 0o700
