"""Root in somebody else's ledger: what is made there belongs to him, what is his he can replace."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

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


def test_in_our_own_folder_nothing_changes(tmp_path):
    with as_owner(tmp_path):
        (tmp_path / "file").write_text("")
        assert os.geteuid() == tmp_path.stat().st_uid
