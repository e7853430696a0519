"""Signatures of people with the SSH keys they already have, through their agent.

``ssh-keygen -Y sign`` with a public key asks the agent (``ssh -A`` brings it along); nothing
private comes near this machine. ``-Y verify`` checks against an allowed_signers file, which is
always an input and never taken from the report.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.commissioning.sat.canonical import sha256
from gateway.commissioning.sat.report import statement
from gateway.model.errors import GatewayError

NAMESPACE = "sopgw-sat"
ROLES = ("commissioning", "owner", "witness")
TIMEOUT_S = 60.0  # an agent may ask its owner to touch a token


class SignError(GatewayError):
    """ssh-keygen or the agent did not do it; the text says what it answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """One person's signature under a record; ``paper`` ones carry a photo's digest instead."""

    kind: str  # ssh | paper
    role: str
    name: str  # principal in allowed_signers for ssh
    utc_us: int
    fingerprint: str = ""
    signature: str = ""  # armoured SSH signature
    photo_sha256: str = ""

    def data(self) -> dict[str, Any]:
        """Return plain values, as the report keeps them."""
        return {
            "kind": self.kind, "role": self.role, "name": self.name, "utc_us": self.utc_us,
            "fingerprint": self.fingerprint, "signature": self.signature,
            "sha256": self.photo_sha256,
        }  # fmt: skip


def sign(
    record: Mapping[str, Any], *, role: str, name: str, public_key: Path, utc_us: int
) -> Signed:
    """Sign the statement about a record with a key the agent holds."""
    done = _run(
        ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(public_key)],
        statement(record, role=role, name=name, utc_us=utc_us),
    )
    if done.returncode or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        raise SignError(f"not signed: {_said(done)}")
    return Signed(
        kind="ssh",
        role=role,
        name=name,
        utc_us=utc_us,
        fingerprint=fingerprint(public_key),
        signature=done.stdout.decode("ascii"),
    )


def paper(*, role: str, name: str, photo: Path, utc_us: int) -> Signed:
    """Note a signature on paper by the digest of its photo."""
    return Signed(
        kind="paper", role=role, name=name, utc_us=utc_us, photo_sha256=sha256(photo.read_bytes())
    )


def fingerprint(public_key: Path) -> str:
    """Return ``SHA256:…`` of a public key."""
    done = _run(["ssh-keygen", "-l", "-f", str(public_key)], b"")
    if done.returncode:
        raise SignError(f"{public_key} is not a public key: {_said(done)}")
    return done.stdout.decode().split()[1]


def agent_keys(folder: Path) -> tuple[Path, ...]:
    """Write the agent's public keys into a folder, one file each; empty without an agent."""
    done = _run(["ssh-add", "-L"], b"")
    if done.returncode:
        return ()
    paths = []
    for number, line in enumerate(done.stdout.decode().splitlines()):
        path = folder / f"agent-{number}.pub"
        path.write_text(line + "\n", encoding="ascii", errors="replace")
        paths.append(path)
    return tuple(paths)


def principal_of(public_key: Path, allowed_signers: Path) -> str:
    """Return the name a key is known under: in allowed_signers, else its comment; "" for neither.

    A file that gives the key several names, or a pattern, says no name.
    """
    kind, blob, *comment = public_key.read_text(encoding="utf-8", errors="replace").split()
    lines = allowed_signers.read_text("utf-8").splitlines() if allowed_signers.exists() else []
    for words in (line.split() for line in lines if not line.startswith("#")):
        if blob in words[1:] and words[words.index(blob) - 1] == kind:
            name = words[0].strip('"')
            return "" if set(name) & set(",*?!#") else name
    return comment[0] if comment else ""


def check(record: Mapping[str, Any], signed: Mapping[str, Any], *, allowed_signers: Path) -> str:
    """Return "" when a signature is good, else what ssh-keygen has against it."""
    if signed["kind"] == "paper":
        return ""
    text = statement(record, role=signed["role"], name=signed["name"], utc_us=signed["utc_us"])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "statement.sig"
        file.write_text(signed["signature"], encoding="utf-8")
        done = _run(
            [
                "ssh-keygen", "-Y", "verify", "-f", str(allowed_signers), "-I", signed["name"],
                "-n", NAMESPACE, "-s", str(file),
            ],
            text,
        )  # fmt: skip
    if done.returncode:
        return _said(done)
    shown = done.stdout.decode(errors="replace")
    return "" if signed["fingerprint"] in shown else "signed by another key than the report shows"


def _run(arguments: list[str], given: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603 - fixed program, arguments of ours
            arguments, input=given, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise SignError(f"{arguments[0]} is missing: install openssh-client") from None
    except subprocess.TimeoutExpired:
        raise SignError(f"{arguments[0]} did not answer in {TIMEOUT_S:.0f} s") from None


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stderr + b"\n" + done.stdout).decode(errors="replace").strip().splitlines()
    return "; ".join(line.strip() for line in lines if line.strip()) or "no answer"
