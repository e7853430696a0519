"""DSSE envelopes around settled trades: the signed form in which the gateway takes them."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from ledger.contracts.document import canonical

if TYPE_CHECKING:
    from ledger.network.message import Sign

SCHEDULE = "application/vnd.sop.schedule+json"


def envelope(document: Any, key: Sign, public: bytes) -> dict[str, Any]:
    """Sign a document's canonical bytes; ``keyid`` is the SHA-256 of the raw public key."""
    body = canonical(document)
    kind = SCHEDULE.encode()
    signature = key.sign(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body))
    return {
        "payloadType": SCHEDULE,
        "payload": base64.b64encode(body).decode(),
        "signatures": [
            {
                "keyid": hashlib.sha256(public).hexdigest(),
                "sig": base64.b64encode(signature).decode(),
            }
        ],
    }
