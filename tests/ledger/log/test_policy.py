"""Policy files: quorums count, mistakes are named by line."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.log import policy
from ledger.log.cosign import Cosigner
from ledger.log.keys import signer_of
from ledger.log.merkle import EMPTY_ROOT
from ledger.log.note import Note, NoteError
from ledger.log.policy import PolicyError

LOG = signer_of(Ed25519PrivateKey.from_private_bytes(bytes(32)), "log.example")
WITNESSES = [
    Cosigner.ed25519(Ed25519PrivateKey.from_private_bytes(bytes([n] * 32)), f"w{n}.example")
    for n in (1, 2, 3, 4)
]
TEXT = "\n".join(
    [
        "# who may vouch",
        f"log {LOG.vkey} https://log.example",
        *(f"witness w{n} {w.key.vkey} https://w{n}.example/" for n, w in enumerate(WITNESSES, 1)),
        "",
        "group inner all w1 w2",
        "group outer any inner w3",
        "group two 2 outer w3 w4",
        "quorum two",
    ]
)


def signed(*numbers: int) -> Note:
    from ledger.log.checkpoint import Checkpoint

    text = Checkpoint(origin="log.example", size=0, root=EMPTY_ROOT).text()
    lines = [WITNESSES[n - 1].cosign(text, 1) for n in numbers]
    return Note(text=text, signatures=(LOG.signature(text), *lines))


@pytest.mark.parametrize(
    ("numbers", "met"),
    [((), False), ((1,), False), ((1, 2), False), ((3,), True), ((1, 2, 4), True), ((1, 4), False),
     ((2, 3), True), ((4,), False), ((1, 2, 3, 4), True)],
)  # fmt: skip
def test_quorums(numbers: tuple[int, ...], met: bool) -> None:
    rules = policy.parse(TEXT)
    assert rules.witnesses["w1"].url == "https://w1.example/"
    if met:
        assert rules.check(signed(*numbers))[0] == LOG.key
    else:
        with pytest.raises(NoteError, match="quorum two"):
            rules.check(signed(*numbers))


def test_no_quorum_needs_the_log_alone() -> None:
    rules = policy.parse(f"log {LOG.vkey}\nquorum none\n")
    assert rules.check(signed()) == [LOG.key]
    bare = Note(text=signed().text, signatures=signed(1).signatures[1:])
    with pytest.raises(NoteError, match="not signed by a log"):
        rules.check(bare)


W1 = f"witness w1 {WITNESSES[0].key.vkey}"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("logs x", "line 1: unknown word"), (f"log {LOG.vkey}", "no quorum"), ("log x\nquorum none", "line 1"),
        (f"log {WITNESSES[0].key.vkey}\nquorum none", "line 1"), (f"witness a {LOG.vkey}\nquorum none", "line 1"),
        (f"{W1}\n{W1}\nquorum none", "line 2"), (f"{W1}\ngroup g 2 w1\nquorum g", "line 2"),
        (f"{W1}\ngroup g any w1 w1\nquorum g", "line 2"), (f"{W1}\ngroup g any w9\nquorum g", "line 2"),
        (f"{W1}\ngroup g most w1\nquorum g", "line 2"), (f"{W1}\ngroup g any g\nquorum g", "line 2"),
        (f"{W1}\ngroup w1 any w1\nquorum w1", "line 2"), ("quorum none\nquorum none", "line 2"),
        ("quorum w", "line 1"), (f"{W1}\ngroup none any w1\nquorum none", "line 2"), ("group g any\nquorum none", "line 1"),
        ("witness w1\nquorum none", "line 1"), (f"log {LOG.vkey} a b\nquorum none", "line 1"),
    ],
)  # fmt: skip
def test_mistakes_are_named(text: str, line: str) -> None:
    with pytest.raises(PolicyError, match=line):
        policy.parse(text)


@given(st.text(max_size=200))
def test_any_text_is_refused_or_a_policy(text: str) -> None:
    try:
        found = policy.parse(text)
    except PolicyError:
        return
    assert found.quorum


def test_files(tmp_path: object) -> None:
    from pathlib import Path

    path = Path(str(tmp_path)) / "policy"
    with pytest.raises(PolicyError, match="No such file"):
        policy.load(path)
    path.write_text(TEXT)
    assert policy.load(path).quorum == "two"
    path.write_bytes(b"\xff")
    with pytest.raises(PolicyError, match="not text"):
        policy.load(path)
