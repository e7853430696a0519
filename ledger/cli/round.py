"""``sopledger round``: what parties send to the market, signed with their own key."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.node import ask, fetch, url_option
from ledger.cli.output import Answer, ExampleGroup, ExitCode, Failure, Remark, command
from ledger.contracts.document import DocumentRefused, Node, parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from ledger.contracts.document import Mistake

ASIDE = "ledger.cli.round.aside"
STATUS_EXIT = {
    200: ExitCode.DONE,
    409: ExitCode.REFUSED,
    400: ExitCode.INPUT,
    503: ExitCode.UNREACHABLE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """A message that is written to a file instead of being sent."""

    file: Path
    market: str
    seq: int


def _aside(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    """Keep ``--out FILE,MARKET,SEQ`` for whoever sends."""
    if value is None:
        return
    file, _, rest = value.partition(",")
    market, _, seq = rest.partition(",")
    if not file or not market or not seq.isdigit():
        raise click.BadParameter("write FILE,MARKET,SEQ: where to, which market, which number")
    ctx.meta[ASIDE] = Aside(file=Path(file), market=market, seq=int(seq))


def signed_by(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of everything that is signed."""
    function = click.option(
        "--out",
        callback=_aside,
        expose_value=False,
        metavar="FILE,MARKET,SEQ",
        help="write the signed message, to be sent by MQTT, instead of handing it in",
    )(function)
    function = click.option("--party", required=True, help="who sends it")(function)
    return click.option(
        "--key",
        "key_file",
        required=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="the party's key file",
    )(function)


def read_json(path: Path) -> Any:
    """Read a JSON file; ends the command when it is none."""
    try:
        return parse(path.read_bytes())
    except (DocumentRefused, OSError) as error:
        raise Failure(ExitCode.INPUT, "file", f"{path}: {error}") from None


def send(url: str, party: str, key_file: Path, body: dict[str, Any]) -> Answer:
    """Sign a message with the next number, hand it in, wait until it is final."""
    from ledger.log.canonical import CanonicalError
    from ledger.log.keys import KeyFileError, load_key
    from ledger.network.message import sign_message

    aside: Aside | None = click.get_current_context().meta.get(ASIDE)
    if aside is not None:
        market, seq = aside.market, aside.seq
    else:
        market = fetch(url + "/v1/status")["market"]
        code, found = asyncio.run(ask("GET", f"{url}/v1/parties/{party}"))
        seq = int(found["seq"]) + 1 if code == 200 else 0
    try:
        signer = load_key(key_file, party)
        message = sign_message(market, party, seq, body, signer, signer.key.public.hex())
    except (KeyFileError, CanonicalError) as error:
        raise Failure(ExitCode.INPUT, "message", str(error)) from None
    if aside is not None:
        aside.file.write_bytes(message)
        digest = hashlib.sha256(message).hexdigest()
        data = {"file": str(aside.file), "message_sha256": digest}
        return Answer(data=data, lines=(f"wrote {aside.file}, message {digest}",))
    code, answer = asyncio.run(ask("POST", url + "/v1/messages", message))
    errors = tuple(
        Remark(code="refused", message=f"{error['path']}: {error['message']}")
        for error in answer.get("errors", [])
    )
    lines = (f"{body['kind']} final at height {answer['height']}",) if code == 200 else ()
    exit_code = STATUS_EXIT.get(code, ExitCode.BAD)
    return Answer(data=answer, lines=lines, errors=errors, exit_code=exit_code)


@click.group("round", cls=ExampleGroup)
def round_() -> None:
    """Join a market, open rounds, offer, report deliveries."""


@command(
    "join",
    "sopledger round join region-a --public HEX --role region --terminal T1 --deposit 1000000"
    " --party op --key op.key",
    "sopledger round join gw --public HEX --role gateway --party op --key op.key",
)
@click.argument("name")
@click.option("--public", required=True, help="its public key in hex (sopledger node keygen)")
@click.option("--role", required=True, type=click.Choice(["operator", "gateway", "region"]))
@click.option("--terminal", default=None, help="where a region trades")
@click.option("--technology", default=None)
@click.option("--storage-wh", default=None, type=click.IntRange(0), help="what it can store")
@click.option("--deposit", default=0, show_default=True, help="micro-currency paid in")
@signed_by
@url_option
def join(
    name: str,
    public: str,
    role: str,
    terminal: str | None,
    technology: str | None,
    storage_wh: int | None,
    deposit: int,
    party: str,
    key_file: Path,
    url: str,
) -> Answer:
    """Let a party in; the operator signs and confirms the deposit."""
    body: dict[str, Any] = {"kind": "join", "id": name, "key": public, "role": role}
    optional = {"terminal": terminal, "technology": technology, "storage_wh": storage_wh}
    body |= {key: value for key, value in optional.items() if value is not None}
    return send(url, party, key_file, {**body, "deposit": deposit})


def of_money(function: Callable[..., Any]) -> Callable[..., Any]:
    """Argument and option of what the operator confirms of a party's money."""
    function = click.option(
        "--amount", required=True, type=int, help="micro-currency; negative: paid out"
    )(function)
    return click.argument("name")(function)


@command(
    "deposit",
    "sopledger round deposit region-a --amount 1000000 --party op --key op.key",
    "sopledger round deposit region-a --amount -1000000 --party op --key op.key",
)
@of_money
@signed_by
@url_option
def deposit(name: str, amount: int, party: str, key_file: Path, url: str) -> Answer:
    """Confirm what a party paid in, or was paid back; the operator signs."""
    return send(url, party, key_file, {"kind": "deposit", "id": name, "amount": amount})


@command(
    "payment",
    "sopledger round payment region-a --amount 250000 --party op --key op.key",
    "sopledger round payment region-b --amount -250000 --party op --key op.key",
)
@of_money
@signed_by
@url_option
def payment(name: str, amount: int, party: str, key_file: Path, url: str) -> Answer:
    """Confirm that a party paid what it owed, or was paid its due; the operator signs."""
    return send(url, party, key_file, {"kind": "payment", "id": name, "amount": amount})


@command(
    "open",
    "sopledger round open R-0200 round.json --party op --key op.key",
    "sopledger round open R-0200 round.json --penalty-per-kwh 500000 --party op --key op.key",
)
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--penalty-per-kwh", default=0, show_default=True, help="micro-currency")
@click.option("--clock", default=None, help="COMMIT,REVEAL,CLEAR seconds before the start")
@click.option("--gateway", default=None, help="the only gateway that may report on it")
@signed_by
@url_option
def open_(
    name: str,
    file: Path,
    penalty_per_kwh: int,
    clock: str | None,
    gateway: str | None,
    party: str,
    key_file: Path,
    url: str,
) -> Answer:
    """Open a round: an hco file without offers, with the terminals' capability."""
    body = {"kind": "open", "round": name, "document": read_json(file)}
    body["penalty_per_kwh"] = penalty_per_kwh
    if gateway is not None:
        body["gateway"] = gateway
    if clock is not None:
        try:
            commit_s, reveal_s, clear_s = (int(part) for part in clock.split(","))
        except ValueError:
            raise Failure(
                ExitCode.USAGE, "clock", f"{clock!r} is not COMMIT,REVEAL,CLEAR"
            ) from None
        body["clock"] = {"commit_s": commit_s, "reveal_s": reveal_s, "clear_s": clear_s}
    return send(url, party, key_file, body)


@command(
    "commit",
    "sopledger round commit R-0200 offers.json --party region-a --key region-a.key",
    "sopledger round commit R-0200 offers.json --sealed a.sealed --party region-a --key a.key",
)
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--sealed", default=None, type=click.Path(path_type=Path), help="where the salt goes")
@signed_by
@url_option
def commit(
    name: str, file: Path, sealed: Path | None, party: str, key_file: Path, url: str
) -> Answer:
    """Seal an offer list {level: micro-currency}; salt and offers go to a file for the reveal.

    That file is named after the offers and the round unless --sealed names another. The file of an
    earlier seal is replaced only once the new one is accepted; of one whose fate is not known, or
    that --out leaves to somebody else to send, the salt is kept beside it.
    """
    from ledger.contracts.hco_document import offers_from
    from ledger.contracts.rounds import commitment

    offers, salt = read_json(file), secrets.token_hex(32)
    mistakes: list[Mistake] = []
    Node(name, mistakes, path="$.round").name()
    offers_from(Node(offers, mistakes))
    if mistakes:
        # Sealed, they could never be opened: the market reads them no otherwise.
        remarks = (Remark(code="offers", message=f"{m.path}: {m.message}") for m in mistakes)
        return Answer(errors=tuple(remarks), exit_code=ExitCode.INPUT)
    target = sealed or file.with_name(f"{file.stem}.{name}.sealed")
    _keep_others(target, name, party)
    seal = commitment(salt, offers, party=party, round_id=name)
    fresh = target.with_name(f"{target.name}.{seal[:8]}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump({"round": name, "party": party, "salt": salt, "offers": offers}, out)
        out.flush()
        os.fsync(out.fileno())
    answer = send(url, party, key_file, {"kind": "commit", "round": name, "hash": seal})
    if answer.exit_code in (ExitCode.REFUSED, ExitCode.INPUT):
        fresh.unlink()
        return answer
    if answer.exit_code is not ExitCode.DONE:
        kept = Remark(code="kept", message=f"{fresh} opens it, should it become final")
        return replace(answer, errors=(*answer.errors, kept))
    opener = fresh
    if ASIDE not in click.get_current_context().meta:
        opener = fresh.replace(target)
    data = {**answer.data, "sealed": str(opener)}
    return replace(answer, data=data, lines=(*answer.lines, f"{opener} opens it"))


def _keep_others(target: Path, name: str, party: str) -> None:
    """End the command where a file would be lost that opens another seal, or is none at all."""
    if not target.exists():
        return
    try:
        found = parse(target.read_bytes())
    except (DocumentRefused, OSError):
        found = None
    if not isinstance(found, dict) or (found.get("round"), found.get("party")) != (name, party):
        message = f"{target} is not the seal of {party} in {name}"
        raise Failure(ExitCode.INPUT, "sealed", message, "name another file with --sealed")


@command(
    "reveal",
    "sopledger round reveal R-0200 offers.R-0200.sealed --party region-a --key region-a.key",
    "sopledger round reveal R-0200 a.sealed --party region-a --key a.key --json",
)
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@signed_by
@url_option
def reveal(name: str, file: Path, party: str, key_file: Path, url: str) -> Answer:
    """Open what was sealed."""
    sealed = read_json(file)
    if not isinstance(sealed, dict) or set(sealed) != {"round", "party", "salt", "offers"}:
        raise Failure(ExitCode.INPUT, "sealed", f"{file} was not made by round commit")
    if (sealed["round"], sealed["party"]) != (name, party):
        message = f"{file} is the seal of {sealed['party']} in {sealed['round']}"
        raise Failure(ExitCode.INPUT, "sealed", message)
    opened = {key: sealed[key] for key in ("salt", "offers")}
    return send(url, party, key_file, {"kind": "reveal", "round": name, **opened})


@command(
    "deliver",
    "sopledger round deliver R-0200 delivery.json --party gw --key gw.key",
    "sopledger round deliver R-0200 delivery.json --party gw --key gw.key --json",
)
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@signed_by
@url_option
def deliver(name: str, file: Path, party: str, key_file: Path, url: str) -> Answer:
    """Report what was delivered: a list of {trade_id, delivered_wh, reasons}."""
    return send(
        url, party, key_file, {"kind": "delivery", "round": name, "trades": read_json(file)}
    )


@command(
    "leave",
    "sopledger round leave --party region-a --key region-a.key",
    "sopledger round leave --party region-a --key region-a.key --json",
)
@signed_by
@url_option
def leave(party: str, key_file: Path, url: str) -> Answer:
    """Leave the market; refused while commitments or debts are open."""
    return send(url, party, key_file, {"kind": "leave"})


@command(
    "rotate",
    "sopledger round rotate NEW_PUBLIC_HEX --party region-a --key region-a.key",
    "sopledger round rotate NEW_PUBLIC_HEX --party region-a --key region-a.key --json",
)
@click.argument("public")
@signed_by
@url_option
def rotate(public: str, party: str, key_file: Path, url: str) -> Answer:
    """Announce a new key, signed under the old one."""
    return send(url, party, key_file, {"kind": "rotate", "new_key": public})


@command("ls", "sopledger round ls", "sopledger round ls --json")
@url_option
def ls(url: str) -> Answer:
    """List the rounds a node knows."""
    found = fetch(url + "/v1/rounds")
    return Answer(data=found, lines=tuple(f"{name}  {phase}" for name, phase in found.items()))


@command("show", "sopledger round show R-0200", "sopledger round show R-0200 --json")
@click.argument("name")
@url_option
def show(name: str, url: str) -> Answer:
    """Show a round: who sealed, who revealed, the outcome, the money."""
    found = fetch(f"{url}/v1/rounds/{name}")
    outcome, actuals = found["outcome"], found.get("actuals")
    lines = [
        f"{name} {found['phase']}",
        f"sealed: {', '.join(sorted(found['commits'])) or 'nobody'}",
        f"revealed: {', '.join(sorted(found['offers'])) or 'nobody'}",
    ]
    if outcome:
        levels = ", ".join(
            f"{terminal} {k:+d}" for terminal, k in sorted(outcome["levels"].items())
        )
        lines += [f"levels: {levels}", f"value: {outcome['value']}  {outcome['digest']}"]
    if actuals:
        accounts = sorted(actuals["accounts"].items())
        lines += [f"{account}: {amount:+d}" for account, amount in accounts]
    return Answer(data=found, lines=tuple(lines))


@command(
    "trades",
    "sopledger round trades R-0200 --out trades/",
    "sopledger round trades R-0200 --json",
)
@click.argument("name")
@click.option("--out", default=None, type=click.Path(path_type=Path), help="folder for the files")
@url_option
def trades(name: str, out: Path | None, url: str) -> Answer:
    """Fetch the signed trades of a final round, as the gateway takes them."""
    found = fetch(f"{url}/v1/rounds/{name}/trades")
    lines = []
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for number, envelope in enumerate(found["envelopes"], 1):
            path = out / f"{name}-{number}.dsse.json"
            path.write_text(json.dumps(envelope, separators=(",", ":"), sort_keys=True))
            lines.append(str(path))
    else:
        lines.append(f"{len(found['envelopes'])} documents")
    return Answer(data=found, lines=tuple(lines))


for _command in (
    join,
    deposit,
    payment,
    open_,
    commit,
    reveal,
    deliver,
    leave,
    rotate,
    ls,
    show,
    trades,
):
    round_.add_command(_command)
round_.examples = (
    "sopledger round open R-0200 round.json --party op --key op.key",
    "sopledger round commit R-0200 offers.json --party region-a --key region-a.key",
)
