"""When the certificates of a site end: read again now and then, for they are renewed in place."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509

from gateway.ports import Clock

LOOK_US = 3_600_000_000  # between two looks at the files
BYTES_MAX = 1 << 20  # a bundle of authorities; more is something else


def end_us(path: Path) -> int | None:
    """Return when the first certificate of a file ends, None where none can be read."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(BYTES_MAX)
        found = (
            x509.load_pem_x509_certificates(raw)
            if b"-----BEGIN" in raw
            else [x509.load_der_x509_certificate(raw)]
        )
    except (OSError, ValueError):
        return None
    return min(_utc_us(one.not_valid_after_utc) for one in found)


def _utc_us(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


class Certificates:
    """The certificate files a site names."""

    def __init__(self, paths: Sequence[Path], clock: Clock) -> None:
        self._paths = tuple(paths)
        self._clock = clock
        self._looked_us: int | None = None
        self._first: tuple[str, int] | None = None

    def first_to_end(self) -> tuple[str, int] | None:
        """Return name and end, in UTC microseconds, of the one that ends first."""
        now_us = self._clock.mono_us()
        if self._looked_us is None or now_us - self._looked_us >= LOOK_US:
            self._looked_us = now_us
            ends = ((path.name, end_us(path)) for path in self._paths)
            known = [(name, end) for name, end in ends if end is not None]
            self._first = min(known, key=lambda one: one[1], default=None)
        return self._first
