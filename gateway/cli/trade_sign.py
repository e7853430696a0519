"""``sopgw trade keygen``, ``sign`` and ``cancel``: messages of the market, signed."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from gateway.cli.output import CommandFailed, ExitCode, Finding, command, emit, fail
from gateway.cli.quantities import POWER
from gateway.model.interval import RESOLUTIONS_MS, Interval, utc_ms_from
from gateway.model.reason import Reason

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from gateway.market.schedule_model import Document
    from gateway.model.trade import Trade

INTERVALS_MAX = 200  # what a message of 16 KiB can hold with room to spare
FILE = click.Path(path_type=Path, dir_okay=False)


@command(
    "keygen",
    examples=(
        ("sopgw trade keygen market.pem", "prints what belongs into the site file"),
        ("sopgw trade keygen market.pem --passphrase-file pass.txt", "encrypted"),
    ),
    schema="trade.keygen",
    impact="rw",
)
@click.argument("file", type=FILE)
@click.option("--passphrase-file", type=click.Path(path_type=Path, exists=True))
def keygen(file: Path, passphrase_file: Path | None) -> None:
    """Make an Ed25519 key for a signer of trades; never overwrites."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from gateway.market.dsse import keyid
    from ledger.log.keys import KeyFileError, write_key

    private = Ed25519PrivateKey.generate()
    try:
        write_key(file, private, _passphrase(passphrase_file))
    except KeyFileError as error:
        fail(ExitCode.REFUSED, str(error), code="T101")
    raw = private.public_key().public_bytes_raw()
    public = base64.b64encode(raw).decode()
    protected = "encrypted" if passphrase_file else "NOT PROTECTED by a passphrase"
    emit(
        {"file": str(file), "key": public, "keyid": keyid(raw), "protected": bool(passphrase_file)},
        text=(
            f"{file}  private key, {protected}\nkeyid {keyid(raw)}\n"
            f'site file, market.signers: {{name: {file.stem}, key: "{public}"}}'
        ),
    )


@command(
    "sign",
    examples=(
        (
            "sopgw trade sign --new --id trd-1 --sop SOP-1 --from region-b --to region-a"
            " --power 120kW --start 2026-01-02T02:00Z --key market.pem -o trd-1.json",
            "a trade of one quarter of an hour",
        ),
        ("sopgw trade sign trd-1.json --key clearing.pem -o trd-1.json", "a second signature"),
    ),
    schema="trade.sign",
    impact="rw",
)
@click.argument("document", type=click.Path(path_type=Path, exists=True), required=False)
@click.option("--key", "keys", type=FILE, multiple=True, required=True, help="Signer's PEM file.")
@click.option("--passphrase-file", type=click.Path(path_type=Path, exists=True))
@click.option("-o", "--output", type=FILE, help="Where to write; standard output without it.")
@click.option("--new", is_flag=True, help="Write the document from the options below.")
@click.option("--id", "trade_id", help="Trade id.")
@click.option("--site", default="bench4", show_default=True)
@click.option("--sop", default="SOP-1", show_default=True)
@click.option("--from", "seller", help="Region whose feeder delivers.")
@click.option("--to", "buyer", help="Region whose feeder receives.")
@click.option("--power", type=POWER, help="With its unit; 0kW cancels.")
@click.option("--start", help="UTC, on a boundary of the resolution.")
@click.option("--intervals", type=click.IntRange(1, INTERVALS_MAX), default=1, show_default=True)
@click.option("--resolution", type=click.Choice(sorted(RESOLUTIONS_MS)), default="PT15M")
@click.option("--revision", type=click.IntRange(1, 999_999), default=1, show_default=True)
@click.option("--anyway", is_flag=True, help="Sign a faulty document too, to try refusals.")
def sign(
    *,
    document: Path | None,
    keys: tuple[Path, ...],
    passphrase_file: Path | None,
    output: Path | None,
    new: bool,
    anyway: bool,
    **wanted: Any,
) -> None:
    """Sign a market document, co-sign a signed one, or write and sign a new one."""
    from gateway.market import dsse, schedule_document

    if new == (document is not None):
        raise click.UsageError("give either a DOCUMENT or --new with its options")
    privates = [_private(path, _passphrase(passphrase_file)) for path in keys]
    given = _new(**wanted) if document is None else document.read_bytes()
    body = dsse.peek(given)
    if body is None:
        body, signed = given, dsse.sign(dsse.PAYLOAD_TYPE_SCHEDULE, given, privates)
    else:
        signed = given
        for private in privates:
            added = dsse.add_signature(signed, private)
            if isinstance(added, list):
                refuse(added, "the signed document is faulty")
            signed = added
    found = schedule_document.read(body)
    if isinstance(found, list) and not anyway:
        refuse(found, "the document is faulty; nothing was signed")
    _give(signed, () if isinstance(found, list) else found.trades, output)


@command(
    "cancel",
    examples=(
        (
            "sopgw trade cancel trd-1.json --key market.pem -o cancel-1.json",
            "before it begins; `sopgw trade submit` sends it",
        ),
        (
            "sopgw trade cancel trd-1.json --revision 4 --key market.pem -o cancel-1.json",
            "its third revision was accepted already",
        ),
    ),
    schema="trade.cancel",
    impact="rw",
)
@click.argument("message", type=click.Path(path_type=Path, exists=True))
@click.option("--key", "keys", type=FILE, multiple=True, required=True, help="Signer's PEM file.")
@click.option("--passphrase-file", type=click.Path(path_type=Path, exists=True))
@click.option("-o", "--output", type=FILE, help="Where to write; standard output without it.")
@click.option(
    "--revision", type=click.IntRange(2, 999_999), help="One more than the message's without it."
)
def cancel(
    *,
    message: Path,
    keys: tuple[Path, ...],
    passphrase_file: Path | None,
    output: Path | None,
    revision: int | None,
) -> None:
    """Write and sign the revision that cancels the trades of a message."""
    from gateway.market import dsse, schedule_document

    privates = [_private(path, _passphrase(passphrase_file)) for path in keys]
    given = message.read_bytes()
    found = schedule_document.read(dsse.peek(given) or given)
    if isinstance(found, list):
        refuse(found, "the document is faulty; there is nothing to cancel")
    wanted = found.revision_number + 1 if revision is None else revision
    if wanted <= found.revision_number:
        raise click.UsageError(f"--revision: more than the message's {found.revision_number}")
    body = schedule_document.write_document(_cancelled(found, wanted))
    again = schedule_document.read(body)
    if isinstance(again, list):
        refuse(again, "the cancellation would be faulty; nothing was signed")
    _give(dsse.sign(dsse.PAYLOAD_TYPE_SCHEDULE, body, privates), again.trades, output)


def _cancelled(document: Document, revision_number: int) -> Document:
    """Return the same trades with nothing in them; how a contract settled them is not of these."""
    series = [
        replace(
            one,
            trade=replace(
                one.trade,
                revision_number=revision_number,
                positions=tuple(replace(p, p_w=0, energy_wh=0) for p in one.trade.positions),
            ),
        )
        for one in document.series
    ]
    return replace(
        document,
        revision_number=revision_number,
        created_utc_ms=int(time.time()) * 1000,
        series=tuple(series),
        extension={},
    )


def _give(signed: bytes, trades: Sequence[Trade], output: Path | None) -> None:
    """Write a signed message where it was asked for, and say what it holds."""
    data: dict[str, Any] = {
        "trades": [_trade_data(t) for t in trades],
        "signatures": len(json.loads(signed)["signatures"]),
    }
    if output is None:
        emit(data | {"message": signed.decode()}, text=signed.decode())
        return
    output.write_bytes(signed)
    names = ", ".join(t.id for t in trades)
    emit(data | {"file": str(output)}, text=f"{output}  {names}  {data['signatures']} signature(s)")


def _new(
    *,
    trade_id: str | None,
    site: str,
    sop: str,
    seller: str | None,
    buyer: str | None,
    power: int | None,
    start: str | None,
    intervals: int,
    resolution: str,
    revision: int,
) -> bytes:
    from gateway.market import schedule_document
    from gateway.model.trade import Position, Trade

    if not (trade_id and seller and buyer and start) or power is None:
        raise click.UsageError("--new needs --id, --from, --to, --power and --start")
    try:
        start_ms = utc_ms_from(start)
    except ValueError as error:
        raise click.UsageError(f"--start: {error}") from error
    step_ms = RESOLUTIONS_MS[resolution]
    steps = [
        Interval(start_ms + i * step_ms, start_ms + (i + 1) * step_ms) for i in range(intervals)
    ]
    trade = Trade(
        id=trade_id,
        revision_number=revision,
        sop=sop,
        out_domain=seller,
        in_domain=buyer,
        positions=tuple(
            Position(interval=i, p_w=power, energy_wh=power * step_ms // 3_600_000) for i in steps
        ),
    )
    return schedule_document.write(trade, site=site, created_utc_ms=int(time.time()) * 1000)


def _trade_data(trade: Trade) -> dict[str, Any]:
    return {
        "id": trade.id,
        "revision": trade.revision_number,
        "sop": trade.sop,
        "seller": trade.out_domain,
        "buyer": trade.in_domain,
        "contracted_wh": sum(p.energy_wh for p in trade.positions),
    }


def refuse(reasons: Sequence[Reason], message: str, *, tampered: bool = False) -> NoReturn:
    """End with every reason: the failure code, or that of something tampered with."""
    raise CommandFailed(
        ExitCode.TAMPERED if tampered else ExitCode.FAILED,
        [Finding(code=r.code.value, message=r.detail) for r in reasons],
        data={"reasons": [r.fields() for r in reasons]},
        text="\n".join([message, *(f"  {r.text()}" for r in reasons)]),
    )


def _passphrase(file: Path | None) -> bytes | None:
    if file is None:
        return None
    found = file.read_bytes().rstrip(b"\r\n")
    if not found:
        fail(ExitCode.USAGE, f"{file} is empty: no passphrase", code="T102")
    return found


def _private(path: Path, passphrase: bytes | None) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from ledger.log.keys import KeyFileError, load_key

    try:
        private = load_key(path, "signer", passphrase).private
    except KeyFileError as error:
        fail(ExitCode.USAGE, str(error), code="T102")
    assert isinstance(private, Ed25519PrivateKey)
    return private
