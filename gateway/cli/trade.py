"""``sopgw trade``: be the market on a bench, and see what became of trades."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from gateway.cli.instr import folder_of, ledger_option
from gateway.cli.output import CommandFailed, ExitCode, Finding, emit, fail, group, site_option
from gateway.cli.quantities import DURATION_MS, POWER
from gateway.cli.trade_export import export
from gateway.cli.trade_watch import watch
from gateway.model.interval import RESOLUTIONS_MS, Interval, utc_ms_from
from gateway.model.reason import Reason

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from gateway.market.submission import Answers
    from gateway.model.trade import Trade

INTERVALS_MAX = 200  # what a message of 16 KiB can hold with room to spare


FILE = click.Path(path_type=Path, dir_okay=False)


@group(
    "trade",
    examples=(
        ("sopgw trade keygen market.pem", "a key to sign trades with"),
        ("sopgw trade ls --ledger out/ledger", "what became of every trade"),
    ),
)
def trade_() -> None:
    """Sign, submit, follow and prove settled trades."""


@trade_.command(
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


@trade_.command(
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
                _refuse(added, "the signed document is faulty")
            signed = added
    found = schedule_document.read(body)
    if isinstance(found, list) and not anyway:
        _refuse(found, "the document is faulty; nothing was signed")
    trades = [] if isinstance(found, list) else [_trade_data(t) for t in found.trades]
    data: dict[str, Any] = {"trades": trades, "signatures": len(json.loads(signed)["signatures"])}
    if output is None:
        emit(data | {"message": signed.decode()}, text=signed.decode())
        return
    output.write_bytes(signed)
    names = ", ".join(t["id"] for t in trades)
    emit(data | {"file": str(output)}, text=f"{output}  {names}  {data['signatures']} signature(s)")


@trade_.command(
    "submit",
    examples=(
        ("sopgw trade submit trd-1.json --broker mqtt://127.0.0.1:1883", "and wait for the answer"),
        (
            "sopgw trade submit trd-1.json --broker mqtt://h --gateway-key KEY --wait 30s",
            "believe only the gateway's signature",
        ),
    ),
    schema="trade.submit",
    impact="hw",
)
@click.argument("message", type=click.Path(path_type=Path, exists=True))
@click.option("--broker", required=True, help="mqtt://HOST[:PORT] or mqtts://HOST[:PORT]")
@click.option("--site", help="Site of the topic; that of the document without it.")
@click.option("--sop", help="SOP of the topic; that of the document without it.")
@click.option("--wait", type=DURATION_MS, default="10s", show_default=True)
@click.option("--gateway-key", help="Base64 key or verifier key of the gateway, or a file of it.")
@click.option("--username")
@click.option("--password-file", type=click.Path(path_type=Path, exists=True))
@click.option("--ca", type=click.Path(path_type=Path, exists=True), help="Broker's authorities.")
def submit(
    *,
    message: Path,
    broker: str,
    site: str | None,
    sop: str | None,
    wait: int,
    gateway_key: str | None,
    username: str | None,
    password_file: Path | None,
    ca: Path | None,
) -> None:
    """Send a signed trade and wait for the gateway's signed answer."""
    import asyncio

    from gateway.market import mqtt, submission

    payload = message.read_bytes()
    topics = _topics(payload, site, sop)
    password = password_file.read_text().strip() if password_file else None
    where = mqtt.broker_from(broker, username=username, password=password, ca_file=ca)
    key = None if gateway_key is None else _public(gateway_key)
    try:
        answers = asyncio.run(
            submission.submit(
                payload, broker=where, topics=topics, wait_s=wait / 1000, gateway_key=key
            )
        )
    except submission.BrokerUnreachable as error:
        fail(ExitCode.UNREACHABLE, str(error), code="T104")
    _report(answers, wait, verified=key is not None)


@trade_.command(
    "ls",
    examples=(
        ("sopgw trade ls -c site.yaml", "every trade and what became of it"),
        ("sopgw trade ls --ledger out/ledger --json", "for scripts"),
    ),
    schema="trade.ls",
)
@ledger_option
@site_option
def ls(directory: Path | None, config_path: Path) -> None:
    """List the trades of a ledger."""
    from gateway.cli import trade_story

    stories = trade_story.read(folder_of(directory, config_path))
    rows = [story.data() for story in stories.values()]
    emit({"trades": rows}, text=lambda: trade_story.table(stories.values()))


@trade_.command(
    "show",
    examples=(
        ("sopgw trade show trd-1 -c site.yaml", "its story, line by line"),
        ("sopgw trade show trd-1 --ledger out/ledger --json", "the entries themselves"),
    ),
    schema="trade.show",
)
@click.argument("trade_id", metavar="ID")
@ledger_option
@site_option
def show(trade_id: str, directory: Path | None, config_path: Path) -> None:
    """Tell what became of one trade, with the ledger index of each step."""
    from gateway.cli import trade_story

    story = trade_story.read(folder_of(directory, config_path)).get(trade_id)
    if story is None:
        fail(ExitCode.FAILED, f"no trade {trade_id} in this ledger", code="T105")
    emit(
        story.data() | {"entries": [e.data() for e in story.steps]},
        text=lambda: "\n".join(trade_story.lines(story)),
    )


@trade_.command(
    "receipt",
    examples=(
        ("sopgw trade receipt trd-1 --ledger out/ledger -o trd-1.json", "evidence in one file"),
        ("sopledger receipt verify trd-1.json --key ledger.vkey", "what the other party does"),
    ),
    schema="trade.receipt",
    impact="rw",
)
@click.argument("trade_id", metavar="ID")
@ledger_option
@site_option
@click.option("-o", "--output", type=FILE, required=True)
def receipt(trade_id: str, directory: Path | None, config_path: Path, output: Path) -> None:
    """Write the receipt of a trade: the evidence a counterparty keeps."""
    from ledger.audit.receipt import ReceiptError, build

    try:
        found = build(folder_of(directory, config_path), trade_id)
    except ReceiptError as error:
        fail(ExitCode.FAILED, str(error), code="T106")
    output.write_text(json.dumps(found, sort_keys=True, indent=1) + "\n")
    count = len(found["entries"])
    text = f"{output}  {trade_id}  {len(found['intervals'])} interval(s), {count} entries"
    emit({"file": str(output), "trade_id": trade_id, "entries": count}, text=text)


trade_.add_command(export)
trade_.add_command(watch)


@trade_.command(
    "explain",
    examples=(
        ("sopgw trade explain trd-6 -c site.yaml", "every step with its entries, and why less"),
        ("sopgw trade explain trd-6 --ledger out/ledger --json", "of any ledger, for a script"),
    ),
    schema="trade.explain",
)
@click.argument("trade_id", metavar="ID")
@ledger_option
@site_option
def explain_(trade_id: str, directory: Path | None, config_path: Path) -> None:
    """Tell why a trade became what it became: who signed, what was cut, what went wrong when."""
    from gateway.cli.trade_explain import explain
    from gateway.journal.ledger_journal import read_entries

    told = explain(read_entries(folder_of(directory, config_path)), trade_id)
    if told is None:
        fail(
            ExitCode.FAILED,
            f"no trade {trade_id} in this ledger",
            code="T105",
            help="`sopgw trade ls` lists them",
        )
    emit(told.data(), text=told.text)


@trade_.command(
    "rehearse",
    examples=(
        ("sopgw trade rehearse", "one good trade on a simulated bench, from message to proof"),
        ("sopgw trade rehearse --with cut,duplicate,late,retained", "and four that go wrong"),
    ),
    schema="trade.rehearse",
)
@click.option("--count", type=click.IntRange(1, 3), default=1, show_default=True)
@click.option("--power", type=POWER, default="12kW", show_default=True)
@click.option("--with", "wrongs", default="", help="Of cut, duplicate, late, retained; by commas.")
@click.option("--speed", type=click.IntRange(1, 120), default=30, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep its ledger.")
def rehearse(*, count: int, power: int, wrongs: str, speed: int, keep: Path | None) -> None:
    """Send trades to a simulated bench, good ones and wrong ones, and hold each to its outcome."""
    from gateway.cli.trade_rehearse import POWER_STEP_W, WRONGS, Order, play

    if power <= 0 or power % POWER_STEP_W:
        raise click.UsageError(f"--power: whole multiples of {POWER_STEP_W} W make whole Wh")
    wanted = tuple(w.strip() for w in wrongs.split(",") if w.strip())
    unknown = [w for w in wanted if w not in WRONGS]
    if unknown:
        raise click.UsageError(f"--with {unknown[0]}: one of {', '.join(WRONGS)}")
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise click.UsageError(f"{keep} is not empty; name a new directory")
    play(Order(count=count, p_w=power, wrongs=wanted, speed_factor=speed), keep)


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


def _topics(payload: bytes, site: str | None, sop: str | None) -> Any:
    from gateway.market import dsse, schedule_document
    from gateway.market.schedule_document import Document
    from gateway.market.topics import Topics

    body = dsse.peek(payload)
    found = schedule_document.read(body) if body is not None else None
    if isinstance(found, Document):
        site, sop = site or found.site, sop or found.trades[0].sop
    if not site or not sop:
        raise click.UsageError("the message names no site and SOP; give --site and --sop")
    return Topics(site=site, sop=sop)


def _report(answers: Answers, wait_ms: int, *, verified: bool) -> None:
    data = {"answers": list(answers.by_trade.values()), "verified": verified}
    if not answers.by_trade and answers.doubts:
        _refuse(answers.doubts, "an answer came that the gateway's key did not sign", tampered=True)
    if not answers.complete:
        message = f"no answer within {wait_ms / 1000:g} s"
        help_text = "the broker has it; the same message may be sent again without harm"
        fail(ExitCode.UNREACHABLE, message, code="T104", help=help_text, data=data)
    lines = [_answer_text(answer) for answer in answers.by_trade.values()]
    lines.append("signature checked" if verified else "signature NOT checked (no --gateway-key)")
    findings = [
        Finding(code=reason["code"], message=reason["detail"] or reason["code"])
        for answer in answers.by_trade.values()
        for reason in answer["reasons"]
    ]
    exit_code = ExitCode.OK if answers.accepted else ExitCode.REFUSED
    emit(data, text="\n".join(lines), exit_code=exit_code, findings=findings)


def _answer_text(answer: Mapping[str, Any]) -> str:
    verdict = "accepted" if answer["accepted"] else "refused"
    name = answer["trade_id"] or "message"
    head = f"{name}  revision {answer['revision']}  {verdict}  entry {answer['ledger_index']}"
    return "\n".join([head, *(f"  {r['code']}: {r['detail']}" for r in answer["reasons"])])


def _refuse(reasons: Sequence[Reason], message: str, *, tampered: bool = False) -> NoReturn:
    raise CommandFailed(
        ExitCode.TAMPERED if tampered else ExitCode.FAILED,
        [Finding(code=r.code.value, message=r.detail) for r in reasons],
        data={"reasons": [r.fields() for r in reasons]},
        text="\n".join([message, *(f"  {r.text()}" for r in reasons)]),
    )


def _passphrase(file: Path | None) -> bytes | None:
    return None if file is None else file.read_bytes().rstrip(b"\r\n")


def _private(path: Path, passphrase: bytes | None) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from ledger.log.keys import KeyFileError, load_key

    try:
        private = load_key(path, "signer", passphrase).private
    except KeyFileError as error:
        fail(ExitCode.USAGE, str(error), code="T102")
    assert isinstance(private, Ed25519PrivateKey)
    return private


def _public(text: str) -> bytes:
    """Read a raw key: base64, or a verifier key ``name+hash+key``, or a file of either."""
    path = Path(text)
    if path.is_file():
        text = path.read_text().split()[-1]
    try:
        raw = base64.b64decode(text.split("+", 2)[-1] if text.count("+") > 1 else text)
    except ValueError:
        raw = b""
    raw = raw[1:] if len(raw) == 33 and raw[0] == 1 else raw
    if len(raw) != 32:
        raise click.UsageError("--gateway-key: neither a base64 key nor a verifier key")
    return raw
