"""Keys, trades and signed documents for the tests of the market edge."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.market import dsse, schedule_document
from gateway.model.interval import Interval, utc_ms_from
from gateway.model.trade import Position, Trade

START_MS = utc_ms_from("2026-01-02T02:00Z")
CREATED_MS = utc_ms_from("2026-01-02T01:49:03Z")


def key(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def public(private: Ed25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()


def signers_of(*keys: Ed25519PrivateKey) -> dict[str, bytes]:
    return {dsse.keyid(public(k)): public(k) for k in keys}


def trade(
    *,
    id: str = "trd-1",
    p_w: tuple[int, ...] = (120_000,),
    step_ms: int = 900_000,
    start_ms: int = START_MS,
    revision: int = 1,
    sop: str = "SOP-1",
    seller: str = "region-b",
    buyer: str = "region-a",
) -> Trade:
    return Trade(
        id=id,
        revision_number=revision,
        sop=sop,
        out_domain=seller,
        in_domain=buyer,
        positions=tuple(
            Position(
                interval=Interval(start_ms + i * step_ms, start_ms + (i + 1) * step_ms),
                p_w=p,
                energy_wh=p * step_ms // 3_600_000,
            )
            for i, p in enumerate(p_w)
        ),
    )


def body(**changes) -> bytes:
    site = changes.pop("site", "bench4")
    return schedule_document.write(trade(**changes), site=site, created_utc_ms=CREATED_MS)


def signed(raw: bytes | None = None, *keys: Ed25519PrivateKey) -> bytes:
    return dsse.sign(dsse.PAYLOAD_TYPE_SCHEDULE, body() if raw is None else raw, keys or (key(1),))


def codes(reasons) -> list[str]:
    return [r.code.value for r in reasons]
