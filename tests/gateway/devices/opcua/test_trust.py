import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.devices.opcua.trust import (
    TrustError,
    application_uri,
    double_of,
    load_certificate,
    prove_impostor_refused,
    validator_of,
)

URI = "urn:device:1"
DAY = dt.timedelta(days=1)
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def certificate(*, days=(-2, 30), uri=URI, server=True, usage=True, key=KEY, name="device"):
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject)
        .public_key(key.public_key()).serial_number(7)
        .not_valid_before(now + days[0] * DAY).not_valid_after(now + days[1] * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=False)
    )  # fmt: skip
    if uri:
        san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(san, critical=False)
    which = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    # The store's verifier looks for the client's usage, the options for the server's.
    builder = builder.add_extension(
        x509.ExtendedKeyUsage([which, ExtendedKeyUsageOID.CLIENT_AUTH][: 2 if server else 1]),
        critical=False,
    )
    if usage:
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=True, content_commitment=True, key_encipherment=True,
                data_encipherment=True, key_agreement=False, key_cert_sign=True, crl_sign=False,
                encipher_only=False, decipher_only=False,
            ),
            critical=False,
        )  # fmt: skip
    return builder.sign(key, hashes.SHA256())


def stored(folder, *certificates):
    folder.mkdir(exist_ok=True)
    for number, one in enumerate(certificates):
        data = one.public_bytes(serialization.Encoding.DER)
        (folder / f"{number}.der").write_bytes(data)
    return folder


async def test_the_pinned_and_trusted_certificate_passes_and_its_double_does_not(tmp_path):
    pinned = certificate()
    validate = await validator_of(pinned, stored(tmp_path / "t", pinned))
    await prove_impostor_refused(validate, pinned)
    double = double_of(pinned)
    assert double.subject == pinned.subject
    assert application_uri(double) == URI
    assert double.public_key() != pinned.public_key()


BAD = {
    "nothing trusted": lambda: (certificate(), []),
    "another trusted": lambda: (certificate(), [certificate(key=rsa.generate_private_key(public_exponent=65537, key_size=2048))]),
    "expired": lambda: (certificate(days=(-9, -1)),) * 1 + ([certificate(days=(-9, -1))],),
    "not yet valid": lambda: (certificate(days=(1, 9)), [certificate(days=(1, 9))]),
    "no application uri": lambda: (certificate(uri=""), [certificate(uri="")]),
    "a client's certificate": lambda: (certificate(server=False), [certificate(server=False)]),
    "no key usage": lambda: (certificate(usage=False), [certificate(usage=False)]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
async def test_opcua_stays_off_when_the_files_do_not_hold(tmp_path, case):
    pinned, trusted = BAD[case]()

    async def prove():
        validate = await validator_of(pinned, stored(tmp_path / "t", *trusted))
        await prove_impostor_refused(validate, pinned)

    with pytest.raises(TrustError, match=r"not trusted|empty"):
        await prove()


async def test_a_validator_that_believes_everybody_is_found_out():
    async def believes(_certificate, _description):
        return None

    with pytest.raises(TrustError, match="impostor"):
        await prove_impostor_refused(believes, certificate())


def test_pem_and_der_are_read(tmp_path):
    one = certificate()
    for encoding, name in (
        (serialization.Encoding.PEM, "a.pem"),
        (serialization.Encoding.DER, "a.der"),
    ):
        (tmp_path / name).write_bytes(one.public_bytes(encoding))
        assert load_certificate(tmp_path / name) == one
