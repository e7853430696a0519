"""Root in somebody else's ledger: what is made there belongs to him, what is his he can replace."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from ledger.cli import sopledger
from ledger.cli.output import run
from ledger.log.owner import as_owner

NOBODY = 65_534

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def theirs():
    """A folder of nobody that nobody can reach, as a service's is."""
    folder = Path(tempfile.mkdtemp(prefix="sopgw-owner-"))
    os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


@root_only
def test_what_root_makes_in_it_belongs_to_its_owner(theirs):
    with as_owner(theirs / "not yet" / "there"):
        (theirs / "tile").mkdir()
        (theirs / "tile" / "0").write_bytes(b"x")
    for path in (theirs / "tile", theirs / "tile" / "0"):
        assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, NOBODY)
    assert (os.geteuid(), os.getegid()) == (0, 0)


@root_only
def test_a_planted_link_leads_root_nowhere_its_owner_could_not_go(theirs, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    (theirs / "checkpoint").symlink_to(secret)
    with pytest.raises(PermissionError), as_owner(theirs):
        (theirs / "checkpoint").write_text("theirs")
    assert secret.read_text() == "root's"
    assert os.geteuid() == 0


@root_only
@pytest.mark.parametrize(
    "words",
    [["key", "rotate", "LEDGER"], ["export", "LEDGER", "--bundle", "OUT"]],
    ids=["key rotate", "export --bundle"],
)
def test_what_a_command_run_by_root_leaves_is_the_services(theirs, tmp_path, words):
    """A key that the service cannot read, or a tile it cannot replace, stops it for good."""
    ledger, lines = theirs / "ledger", tmp_path / "lines"
    lines.write_text('{"a":1}\n')
    assert run(sopledger, ["init", str(ledger), "--origin", "gw.example/ledger"]) == 0
    assert run(sopledger, ["append", str(ledger), "--jsonl", str(lines)]) == 0
    for path in (ledger, *ledger.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    before = set(ledger.rglob("*"))
    places = {"LEDGER": str(ledger), "OUT": str(tmp_path / "out.tar")}
    assert run(sopledger, [places.get(word, word) for word in words]) == 0
    assert set(ledger.rglob("*")) > before
    assert {(p.stat().st_uid, p.stat().st_gid) for p in ledger.rglob("*")} == {(NOBODY, NOBODY)}


def test_in_our_own_folder_nothing_changes(tmp_path):
    with as_owner(tmp_path):
        (tmp_path / "file").write_text("")
        assert os.geteuid() == tmp_path.stat().st_uid
