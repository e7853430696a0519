"""The name a signature stands under; the signing itself is tried in test_verify.py."""

import pytest

from gateway.commissioning.sat.sign import principal_of

KEY = "ssh-ed25519 AAAAkey"


@pytest.mark.parametrize(
    ("comment", "signers", "name"),
    [
        ("", None, ""),
        ("eng@desk of Ann", None, "eng@desk"),
        ("eng@desk", "", "eng@desk"),
        ("eng@desk", f"ann@example {KEY}", "ann@example"),
        ("eng@desk", f'ann@example namespaces="sopgw-sat" {KEY} comment', "ann@example"),
        ("eng@desk", f'# {KEY}\n"ann@example" {KEY}', "ann@example"),
        ("eng@desk", "bob@example ssh-ed25519 AAAAother", "eng@desk"),
        ("eng@desk", "bob@example ssh-rsa AAAAkey", "eng@desk"),
        ("eng@desk", f"ann@example,bob@example {KEY}", ""),
        ("eng@desk", f"*@example {KEY}", ""),
    ],
)
def test_a_key_has_the_name_that_verifiers_know_it_by(comment, signers, name, tmp_path):
    public = tmp_path / "id.pub"
    public.write_text(f"{KEY} {comment}\n")
    allowed = tmp_path / "allowed_signers"
    if signers is not None:
        allowed.write_text(signers + "\n")
    assert principal_of(public, allowed) == name
