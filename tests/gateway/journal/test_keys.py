"""Keys of the gateway: made once, encrypted where there is a passphrase, opened by it alone."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fakes.memory_journal import ManualClock

from gateway.journal.keys import answer_key, is_protected
from gateway.journal.ledger_journal import LedgerJournal
from gateway.model.errors import JournalError


def test_a_key_is_made_once_and_private(tmp_path):
    path = tmp_path / "keys" / "answers.key"
    made = answer_key(path, None)
    assert path.stat().st_mode & 0o777 == 0o600
    assert answer_key(path, None).private_bytes_raw() == made.private_bytes_raw()
    assert not is_protected(path)


def test_with_a_passphrase_it_is_encrypted_and_opens_by_it_alone(tmp_path):
    path = tmp_path / "answers.key"
    made = answer_key(path, b"rain on the roof")
    assert is_protected(path)
    assert answer_key(path, b"rain on the roof").private_bytes_raw() == made.private_bytes_raw()
    with pytest.raises(JournalError, match=r"encrypted.*ledger.passphrase"):
        answer_key(path, None)
    with pytest.raises(JournalError, match="passphrase is wrong"):
        answer_key(path, b"sun")


def test_a_key_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "answers.key"
    key = generate_private_key(SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(JournalError, match="Ed25519"):
        answer_key(path, None)


async def test_the_ledger_opens_with_a_protected_key(tmp_path):
    def opened(passphrase):
        return LedgerJournal.open(
            directory=tmp_path / "ledger",
            origin="bench.example/SOP-1",
            key_file=tmp_path / "ledger.key",
            clock=ManualClock(),
            passphrase=passphrase,
        )

    first = opened(b"rain on the roof")
    await first.close()
    assert is_protected(tmp_path / "ledger.key")
    with pytest.raises(JournalError, match=r"encrypted.*ledger.passphrase"):
        opened(None)
    with pytest.raises(JournalError, match="passphrase is wrong"):
        opened(b"sun")
    again = opened(b"rain on the roof")
    assert again.vkey == first.vkey
    await again.close()
