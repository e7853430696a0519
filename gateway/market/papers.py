"""TLS of the market's connections: whom we believe there, and who we are."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from gateway.model.errors import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Papers:
    """Where the certificates of a connection lie.

    With ``ca_file`` only certificates signed by one of its authorities are believed, without it
    those of the system. ``certificate`` and ``key_file`` are ours, for a door that asks.
    """

    ca_file: Path | None = None
    certificate: Path | None = None
    key_file: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Read them; ConfigError when they cannot be used."""
        try:
            tls = ssl.create_default_context(cafile=self.ca_file)
            tls.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.certificate is not None:
                tls.load_cert_chain(self.certificate, self.key_file)
        except (OSError, ssl.SSLError) as error:
            named = [str(f) for f in (self.ca_file, self.certificate, self.key_file) if f]
            raise ConfigError(f"{', '.join(named)}: {error}") from None
        return tls

    def renewed(self, before: ssl.SSLContext | None) -> ssl.SSLContext | None:
        """Read them again for the next connection; in the middle of a renewal as ``before``."""
        try:
            return self.context()
        except ConfigError as error:
            log.warning("certificates not read again: %s", error)
            return before
