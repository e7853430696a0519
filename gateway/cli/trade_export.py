"""``sopgw trade export``: a settled trade and its delivery in the words of other systems."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.output import CommandFailed, ExitCode, Finding, SopCommand, emit
from gateway.model.interval import utc_ms_from

if TYPE_CHECKING:
    from gateway.market.schedule_document import Document
    from gateway.market.uftp import Parties, Side

FORMATS = ("xml", "flex-order", "flex-settlement")


@click.command(
    "export",
    cls=SopCommand,
    examples=(
        ("sopgw trade export trd-1.json --format xml -o out", "the standard's XML"),
        (
            "sopgw trade export trd-1.json --format flex-settlement --ledger ledger"
            " --sender sop.example.com --recipient dso.example.com"
            " --congestion-point ea1.2026-01.example.com:feeder-2 --time-zone Europe/Amsterdam"
            " --side buyer -o out",
            "what was delivered, in UFTP",
        ),
    ),
    schema="trade.export",
    impact="rw",
)
@click.argument("message", type=click.Path(path_type=Path, exists=True))
@click.option("--format", "kind", type=click.Choice(FORMATS), required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--ledger", "directory", type=click.Path(path_type=Path, exists=True))
@click.option("--sender", help="Our internet domain (UFTP).")
@click.option("--recipient", help="The operator's internet domain (UFTP).")
@click.option("--congestion-point", help="The feeder, as the operator names it (UFTP).")
@click.option("--time-zone", help="Where a day begins (UFTP).")
@click.option("--any-zone", is_flag=True, help="A time zone that UFTP does not admit, too.")
@click.option("--side", type=click.Choice(["seller", "buyer"]), help="Whose feeder (UFTP).")
def export(
    *,
    message: Path,
    kind: str,
    output: Path,
    directory: Path | None,
    sender: str | None,
    recipient: str | None,
    congestion_point: str | None,
    time_zone: str | None,
    any_zone: bool,
    side: str | None,
) -> None:
    """Write a settled trade as XML of the standard, or as UFTP messages to a system operator.

    MESSAGE is a signed message or a bare document. One file a message goes into the directory.
    """
    from gateway.market import uftp

    document = _document(message)
    if kind == "xml":
        _write(output, {f"{document.id}.xml": _xml(document)})
        return
    if not (sender and recipient and congestion_point and time_zone and side):
        raise click.UsageError(
            "UFTP needs --sender, --recipient, --congestion-point, --time-zone and --side"
        )
    if kind == "flex-settlement" and directory is None:
        raise click.UsageError("a settlement needs --ledger, where the deliveries stand")
    parties = uftp.Parties(
        sender=sender,
        recipient=recipient,
        congestion_point=congestion_point,
        time_zone=time_zone,
        any_zone=any_zone,
    )
    feeder = uftp.Side[side.upper()]
    _write(output, _uftp(document, parties, feeder, directory if kind != "flex-order" else None))


def _uftp(
    document: Document, parties: Parties, side: Side, directory: Path | None
) -> dict[str, bytes]:
    from gateway.market import uftp

    delivered = None if directory is None else _delivered(directory)
    created_ms = document.created_utc_ms
    files: dict[str, bytes] = {}
    for series in document.series:
        name = f"{series.trade.id}-{side.name.lower()}"
        if delivered is not None:
            files[f"{name}-settlement.xml"] = uftp.flex_settlement(
                series,
                delivered.get(series.trade.id, {}),
                parties=parties,
                side=side,
                created_utc_ms=created_ms,
                penalty_per_mwh=Decimal(0),
            )
            continue
        orders = uftp.flex_orders(series, parties=parties, side=side, created_utc_ms=created_ms)
        for number, order in enumerate(orders, 1):
            files[f"{name}-order-{number}.xml"] = order
    return files


def _document(path: Path) -> Document:
    from gateway.market import dsse, schedule_document
    from gateway.market.schedule_document import Document

    raw = path.read_bytes()
    found = schedule_document.read(dsse.peek(raw) or raw)
    if isinstance(found, Document):
        return found
    raise CommandFailed(
        ExitCode.FAILED, [Finding(code=r.code.value, message=r.detail) for r in found]
    )


def _xml(document: Document) -> bytes:
    from gateway.market import schedule_xml

    found = schedule_xml.write(document)
    if isinstance(found, bytes):
        return found
    findings = [
        Finding(code="T107", message=fault, help="the standard is shorter here than the document")
        for fault in found
    ]
    raise CommandFailed(ExitCode.FAILED, findings)


def _delivered(directory: Path) -> Mapping[str, dict[int, int]]:
    """Read delivered energy by trade and start of the interval from the ledger's entries."""
    from ledger.log import reader

    found: dict[str, dict[int, int]] = {}
    for _, leaf in reader.entries(directory):
        entry = json.loads(leaf)
        if entry.get("kind") == "delivery":
            start_ms = utc_ms_from(entry["interval"]["start"])
            for trade in entry["trades"]:
                found.setdefault(trade["trade_id"], {})[start_ms] = trade["delivered_wh"]
    return found


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, content in files.items():
        path = folder / name
        path.write_bytes(content)
        paths.append(str(path))
    emit({"files": paths}, text="\n".join(paths))
