"""``sopgw trade``: be the market on a bench, and see what became of trades."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.instr import folder_of, ledger_option
from gateway.cli.output import ExitCode, Finding, emit, fail, group, site_option
from gateway.cli.quantities import DURATION_MS, POWER
from gateway.cli.trade_export import export
from gateway.cli.trade_sign import FILE, cancel, keygen, refuse, sign
from gateway.cli.trade_watch import watch

if TYPE_CHECKING:
    from gateway.market.submission import Answers


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
    from ledger.audit.receipt import EvidenceError, ReceiptError, build

    try:
        found = build(folder_of(directory, config_path), trade_id)
    except EvidenceError as error:
        fail(ExitCode.FAILED, str(error), code="T108")
    except ReceiptError as error:
        fail(ExitCode.FAILED, str(error), code="T106")
    output.write_text(json.dumps(found, sort_keys=True, indent=1) + "\n")
    count = len(found["entries"])
    text = f"{output}  {trade_id}  {len(found['intervals'])} interval(s), {count} entries"
    emit({"file": str(output), "trade_id": trade_id, "entries": count}, text=text)


for member in (keygen, sign, cancel, export, watch):
    trade_.add_command(member)


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
        refuse(answers.doubts, "an answer came that the gateway's key did not sign", tampered=True)
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
