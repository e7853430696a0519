"""``sopgw device trust``: exchange certificates with an OPC UA server, a person in between."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.output import (
    ExitCode,
    Finding,
    command,
    current,
    emit,
    fail,
    say,
    site_option,
)
from gateway.cli.where import seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.devices.opcua.discovery import Certificate, Server
    from gateway.devices.opcua.process import Ask

DIGITS_COUNT = 4
# The channel stands, the server only wants to know who we are: it has taken our certificate.
TAKEN = ("BadIdentityToken", "BadUserAccessDenied")


@command(
    "trust",
    impact="rw",
    schema="device.trust",
    examples=(
        ("sopgw device trust opc.tcp://192.168.10.21:4840", "show both certificates, then ask"),
        ("sopgw device trust sop1b --fingerprint 9A4F…11 --pki /var/lib/sopgw/pki", "in a script"),
    ),
)
@click.argument("where")
@click.option("--fingerprint", default="", help="SHA-256 of the server's certificate, whole.")
@click.option("--replace", is_flag=True, help="Another certificate than the pinned one is right.")
@click.option(
    "--pki",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("pki"),
    show_default=True,
    help="Folder of own, pinned and trusted certificates.",
)
@click.option("--timeout", default="2s", show_default=True, help="For each answer.")
@site_option
def trust(
    *,
    where: str,
    fingerprint: str,
    replace: bool,
    pki: Path,
    timeout: str,
    config_path: Path,
) -> None:
    """Show an OPC UA server's certificate, pin it once a person confirms, say if it takes ours."""
    import asyncio

    url = _url(where, config_path)
    files = _Files(pki, url)
    server, shown, own = asyncio.run(
        _exchanged(
            url,
            files,
            seconds(timeout),
            lambda shown, changed: _confirm(
                shown, fingerprint=fingerprint, changed=changed, replace=replace
            ),
        )
    )
    say(f"✓ Pinned: {files.pinned}\n✓ Trusted: {files.trusted / (shown.sha256 + '.der')}")
    taken = own["taken"]
    finding = Finding(
        code="D114",
        message=f"the server does not take our certificate yet ({own['said']})",
        help=f"on the device trust {own['certificate']}, SHA-256 {own['fingerprint']}",
    )
    emit(
        {
            "url": url,
            "name": server.name,
            "subject": shown.subject,
            "application_uri": shown.application_uri,
            "valid_until": shown.valid_until.isoformat(),
            "sha256": shown.sha256,
            "pinned": str(files.pinned),
            "trusted": str(files.trusted),
            "own_certificate": own["certificate"],
            "own_fingerprint": own["fingerprint"],
            "taken": taken,
            "device_url": files.device_url(url),
        },
        text=f"✓ The server takes our certificate.\nurl: {files.device_url(url)}"
        if taken
        else f"url, once it does: {files.device_url(url)}",
        exit_code=ExitCode.OK if taken else ExitCode.UNDECIDED,
        findings=() if taken else (finding,),
    )


class _Files:
    """Where certificates lie: own, pinned and trusted, one folder of trust for each server."""

    def __init__(self, pki: Path, url: str) -> None:
        from urllib.parse import urlsplit

        parts = urlsplit(url)
        name = f"{parts.hostname}-{parts.port or 4840}"
        pki = pki.absolute()  # the URL holds for whoever reads the site file, wherever that is
        self.own = pki / "own"
        self.trusted = pki / "trusted" / name
        self.pinned = pki / "servers" / f"{name}.der"

    def keep(self, shown: Certificate) -> None:
        """Pin the certificate; whatever was trusted at this place before is not any more."""
        from gateway.journal.owner import as_owner

        with as_owner(self.pinned.parent):
            self.pinned.parent.mkdir(parents=True, exist_ok=True)
            self.trusted.mkdir(parents=True, exist_ok=True)
            for old in self.trusted.glob("*.der"):
                old.unlink()
            (self.trusted / f"{shown.sha256}.der").write_bytes(shown.der)
            self.pinned.write_bytes(shown.der)

    def device_url(self, url: str) -> str:
        """The URL for the site file, with the files."""
        place = url if url.partition("://")[2].count("/") else f"{url}/"
        return (
            f"{place}?cert={self.own}/cert.der&key={self.own}/key.pem"
            f"&server={self.pinned}&trusted={self.trusted}"
        )


def _url(where: str, config_path: Path) -> str:
    from gateway.devices.opcua.address import endpoint_of

    if "://" not in where:
        from gateway.cli.where import target_of

        where = target_of(where, config_path=config_path, profile_name="", unit=None).url
    if not where.startswith("opc.tcp://"):
        raise click.UsageError(f"{where} is no OPC UA address like opc.tcp://192.168.10.21:4840")
    return endpoint_of(where)


async def _exchanged(
    url: str,
    files: _Files,
    timeout_s: float,
    confirm: Callable[[Certificate, bool], None],
) -> tuple[Server, Certificate, dict[str, Any]]:
    """Show the server's certificate, have it confirmed, keep it, show ours; all in one child."""
    from gateway.devices.opcua.discovery import discover
    from gateway.devices.opcua.process import START_TIMEOUT_S, asking

    async with asking(timeout_s=START_TIMEOUT_S + 2 * timeout_s) as ask:
        server = await discover(ask, url, timeout_s=timeout_s)
        shown = server.certificate
        if shown is None or not server.secure:
            fail(
                ExitCode.REFUSED,
                f"{url} offers no signed and encrypted endpoint with one certificate",
                code="D113",
                help="switch on Basic256Sha256, SignAndEncrypt at the server",
            )
        _show(server, shown)
        before = files.pinned.read_bytes() if files.pinned.exists() else None
        if before != shown.der:
            confirm(shown, before is not None)
        files.keep(shown)
        return server, shown, await _own(ask, files, server, timeout_s)


def _show(server: Server, shown: Certificate) -> None:
    ways = ", ".join(dict.fromkeys(f"{e.mode}/{e.policy}" for e in server.endpoints))
    say(
        f"{server.url}: “{server.name}”, {server.application_uri}\n"
        f"  offers       {ways}\n"
        f"  subject      CN={shown.subject}, valid until {shown.valid_until:%Y-%m-%d}\n"
        f"  SHA-256      {shown.fingerprint}\n"
        "  Compare this with the label on the device or its local display."
    )


def _confirm(shown: Certificate, *, fingerprint: str, changed: bool, replace: bool) -> None:
    """Have a person confirm the fingerprint; exit 5 or 6 without it, and nothing is written."""
    if changed and not replace:
        fail(
            ExitCode.REFUSED,
            "the server shows another certificate than the one pinned",
            code="D112",
            help="find out why; where it was renewed on purpose add --replace",
        )
    given = fingerprint.replace(":", "").strip().lower()
    wanted = shown.sha256
    if not given and sys.stdin.isatty() and not current().json:
        digits = click.prompt(
            f"Type the last {DIGITS_COUNT} digits of the fingerprint to trust it", err=True
        )
        given, wanted = str(digits).strip().lower(), wanted[-DIGITS_COUNT:]
    if given != wanted:
        fail(
            ExitCode.UNCONFIRMED,
            "the fingerprint was not confirmed" if not given else "this is another fingerprint",
            code="D112",
            help="read it off the device, then add --fingerprint with the whole of it",
        )


async def _own(ask: Ask, files: _Files, server: Server, timeout_s: float) -> dict[str, Any]:
    """Make or find our certificate and see whether the server takes it."""
    import socket

    from gateway.devices.opcua.discovery import certificate_of
    from gateway.devices.opcua.own import own_files
    from gateway.journal.owner import as_owner
    from gateway.runtime.clock import SystemClock

    name = socket.gethostname() or "gateway"
    with as_owner(files.own):
        certificate, key = own_files(files.own, name=name, now_utc_us=SystemClock().utc_us())
    answer = await ask(
        {
            "op": "connect",
            "url": server.url,
            "certificate": str(certificate),
            "key": str(key),
            "pinned": str(files.pinned),
            "trusted": str(files.trusted),
            "policy": server.secure[0].policy,
            "user": "",
            "password": "",
            "timeout_s": timeout_s,
        }
    )
    said = str(answer.get("what", ""))
    return {
        "certificate": str(certificate),
        "fingerprint": certificate_of(certificate.read_bytes()).fingerprint,
        "taken": "error" not in answer or said.startswith(TAKEN),
        "said": said or "connected",
    }
