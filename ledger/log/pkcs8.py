"""PKCS#8 files encrypted with scrypt and AES-256, as RFC 7914 and RFC 8018 write them.

The library's own writer derives the key with 2,048 rounds of PBKDF2, which is too little for a
passphrase that a person types; its reader and OpenSSL's understand what is written here.
"""

from __future__ import annotations

import os
from base64 import encodebytes
from hashlib import scrypt

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

COST_FACTOR = 1 << 14
"""OpenSSL reads up to 32 MiB of scrypt memory without being asked; this takes 16."""
BLOCK_FACTOR = 8
SALT_BYTES = 16
KEY_BYTES = 32
MEMORY_BYTES_MAX = 64 << 20

PBES2 = bytes.fromhex("06092a864886f70d01050d")
SCRYPT = bytes.fromhex("06092b06010401da47040b")
AES256_CBC = bytes.fromhex("060960864801650304012a")


def der(tag: int, *contents: bytes) -> bytes:
    """One DER element."""
    body = b"".join(contents)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    count = (len(body).bit_length() + 7) // 8
    return bytes([tag, 0x80 | count]) + len(body).to_bytes(count, "big") + body


def integer(value: int) -> bytes:
    """A DER INTEGER that is not negative."""
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def encrypt(private_key_info: bytes, passphrase: bytes) -> bytes:
    """Encrypt a DER PrivateKeyInfo; returns the PEM of an EncryptedPrivateKeyInfo."""
    salt, start = os.urandom(SALT_BYTES), os.urandom(16)
    key = scrypt(
        passphrase, salt=salt, n=COST_FACTOR, r=BLOCK_FACTOR, p=1,
        maxmem=MEMORY_BYTES_MAX, dklen=KEY_BYTES,
    )  # fmt: skip
    padder = PKCS7(128).padder()
    padded = padder.update(private_key_info) + padder.finalize()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(start)).encryptor()
    sealed = encryptor.update(padded) + encryptor.finalize()
    derivation = der(
        0x30,
        SCRYPT,
        der(0x30, der(0x04, salt), integer(COST_FACTOR), integer(BLOCK_FACTOR), integer(1)),
    )
    scheme = der(0x30, derivation, der(0x30, AES256_CBC, der(0x04, start)))
    document = der(0x30, der(0x30, PBES2, scheme), der(0x04, sealed))
    lines = encodebytes(document).replace(b"\n", b"")
    wrapped = b"\n".join(lines[i : i + 64] for i in range(0, len(lines), 64))
    head, tail = (b"-----%s ENCRYPTED PRIVATE KEY-----\n" % w for w in (b"BEGIN", b"END"))
    return head + wrapped + b"\n" + tail
