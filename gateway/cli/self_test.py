"""What the program proves of itself before it may move power: IEC 62443-4-2 CR 3.3 and CR 3.4.

A signature that must fail fails, a broker with a forged certificate is refused, no library is
older than its known holes, and the program's files are the ones that were installed. One that does
not hold leaves the gateway observing: it computes, records, and writes nothing.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from gateway.market import dsse

# The first releases without the holes named in docs/security.md; optional ones only if installed.
FLOORS: Mapping[str, tuple[int, ...]] = {
    "cryptography": (50, 0, 0),
    "aiohttp": (3, 14, 3),
    "aiomqtt": (2, 5, 1),
    "apsw": (3, 51, 3),
    "asyncua": (2, 1, 0),
}
OPENSSL_FLOOR = (3, 0, 0)
DISTRIBUTION = "sop-gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One thing proven, or not: ``holds`` is None where it could not be tried."""

    id: str
    holds: bool | None
    text: str


def prove(mqtt_tls: ssl.SSLContext | None = None) -> list[Proof]:
    """Try everything; ``mqtt_tls`` is the context the gateway will meet its broker with."""
    return [signatures(), impostor(mqtt_tls), versions(), program()]


def signatures(opened: Callable[..., object] = dsse.open_envelope) -> Proof:
    """A good trade signature is taken; a changed one and a stranger's are not."""
    key, stranger = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    kind = dsse.PAYLOAD_TYPE_SCHEDULE
    public = key.public_key().public_bytes_raw()
    known = {dsse.keyid(public): public}

    def taken(message: bytes) -> bool:
        found = opened(message, payload_type=kind, signers=known, required=1)
        return isinstance(found, dsse.Opened)

    good = dsse.sign(kind, b"{}", [key])
    changed = good.replace(base64.b64encode(b"{}"), base64.b64encode(b"[]"))
    tries = {
        "a good signature is refused": taken(good),
        "a changed message is taken": not taken(changed),
        "a stranger's signature is taken": not taken(dsse.sign(kind, b"{}", [stranger])),
    }
    wrong = [what for what, right in tries.items() if not right]
    return Proof(
        id="self.signatures",
        holds=not wrong,
        text="; ".join(wrong) or "good signatures are taken, bad ones refused",
    )


def impostor(tls: ssl.SSLContext | None) -> Proof:
    """A broker that shows a certificate of its own making is refused."""
    if tls is None:
        return Proof(id="self.impostor", holds=None, text="the broker is met without TLS")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = tls.wrap_bio(to_client, to_server, server_hostname="localhost")
    theirs = _forged().wrap_bio(to_server, to_client, server_side=True)
    try:
        for _ in range(4):
            for side in (ours, theirs):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
    except ssl.SSLError:
        return Proof(id="self.impostor", holds=True, text="a forged broker is refused")
    return Proof(id="self.impostor", holds=False, text="a forged broker is believed")


def versions(
    installed: Callable[[str], str] = metadata.version,
    openssl: tuple[int, ...] = ssl.OPENSSL_VERSION_INFO,
) -> Proof:
    """No library is older than the release that closed its known holes."""
    old = []
    for name, floor in FLOORS.items():
        try:
            found = installed(name)
        except metadata.PackageNotFoundError:
            continue
        if _numbers(found) < floor:
            old.append(f"{name} {found} is older than {'.'.join(map(str, floor))}")
    if openssl[:3] < OPENSSL_FLOOR:
        old.append(f"OpenSSL {'.'.join(map(str, openssl[:3]))} is older than 3.0.0")
    return Proof(
        id="self.versions",
        holds=not old,
        text="; ".join(old) or "no library is older than its known holes",
    )


def program(name: str = DISTRIBUTION) -> Proof:
    """The program's files have the hashes they were installed with."""
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return Proof(id="self.program", holds=None, text="not installed as a package")
    ours = [
        f
        for f in distribution.files or ()
        if f.hash is not None and f.suffix == ".py" and f.parts[0] in ("gateway", "ledger")
    ]
    if not ours:
        return Proof(id="self.program", holds=None, text="installed from a working copy")
    for file in ours:
        assert file.hash is not None
        path = Path(str(file.locate()))
        if not path.is_file() or _hash(path, file.hash.mode) != file.hash.value:
            text = f"{file} is not the file that was installed"
            return Proof(id="self.program", holds=False, text=text)
    return Proof(id="self.program", holds=True, text=f"{len(ours)} files are as installed")


def _hash(path: Path, mode: str) -> str:
    digest = hashlib.new(mode, path.read_bytes()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading whole numbers of a version; what comes after counts for nothing."""
    found = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        found.append(int(digits))
    return tuple(found)


def _forged() -> ssl.SSLContext:
    """Return a server that names itself localhost and is signed by nobody but itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    begin = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin.replace(year=2199))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _load(context, made.public_bytes(serialization.Encoding.PEM) + pem)
    return context


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Load a chain that exists in memory only, by a descriptor without a name."""
    descriptor = os.memfd_create("forged")
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
