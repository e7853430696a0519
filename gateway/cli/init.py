"""``sopgw init``: a commented site file to begin with, no devices in it yet."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from gateway.cli.output import ExitCode, command, emit, fail

TEMPLATE = """\
# Site file of sopgw. Every key is explained in docs/configuration.md; after each change:
#   sopgw config check {path}
version: 1
site: {{id: {id}, name: {name}, timezone: {timezone}}}
mode: blocked                  # off | blocked | test | test-blocked | on; blocked never writes

devices:                       # where each device answers, and the profile that knows its registers
  # station: {{profile: sop-station-v1, url: "modbus+tcp://192.168.10.20:502", unit: 100}}
  # m1: {{profile: schneider-iem3255, url: "modbus+tcp://192.168.10.31:502", unit: 1}}
  # find them with: sopgw scan all --subnet 192.168.10.0/24

sops:
  # SOP-1:
  #   station: station
  #   master: T1               # holds the DC voltage; its power is what the others leave
  #   dc: {{v_nominal: 800 V, v: [720 V, 880 V], throughput: 500 kW}}
  #   losses: {{a: 0.4 %, b: 0.6 %, c: 0.6 %}}
  #   heartbeat: {{period: 1 s, device_timeout: 5 s, on_loss: ramp_zero}}
  #   rearm: manual            # after a fail-safe: manual (sopgw arm) | auto
  #   terminals:               # p > 0 injects into the feeder; the guard binds everybody
  #     T1:
  #       index: 0
  #       meter: m1
  #       domain: region-a
  #       s: 250 kVA
  #       guard: {{p: [-230 kW, 230 kW], ramp: 20 %/s, v: [360 V, 440 V]}}

market:
  broker: mqtts://broker.example:8883
  signers: []                  # public keys of who may send trades: sopgw trade keygen
  required: 1
  gate: 2 min
  horizon: 48 h
  over_limit: curtail          # curtail (fairly, with the reason) | refuse

ledger:
  dir: {state}ledger
  origin: {host}.example/SOP-1
  key: {{file: {state}ledger.key}}
  checkpoint: {{every: 10 s}}
  witnesses: []
runtime: {{scan: 1 s, meter_poll: 5 s}}
limits: {{dso_mask: none}}
"""


_WORD = re.compile(r"(?i)(true|false|yes|no|on|off|null)$")  # words that mean more than text
CONFIGURATION = Path("/etc")  # what lies here is read by services, not written
STATE = Path("/var/lib/sopgw")


@command(
    "init",
    schema="init",
    impact="rw",
    examples=(
        ("sopgw init /etc/sopgw", "a site file to fill in, and the folders beside it"),
        ("sopgw init . --site elm --name 'Elm Street'", "here, with its name"),
    ),
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--site", "site_id", default="site-1", show_default=True, help="Id, for topics.")
@click.option("--name", default="", help="Name for people; the id by default.")
@click.option("--timezone", default="UTC", show_default=True)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where ledger and keys are written; beside the file, or /var/lib/sopgw for one in /etc.",
)
def init(*, folder: Path, site_id: str, name: str, timezone: str, state: Path | None) -> None:
    """Write a commented site file; nothing that exists is overwritten."""
    path = folder / "sopgw.yaml"
    if path.exists():
        fail(
            ExitCode.REFUSED,
            f"{path} exists and is left as it is",
            code="I001",
            help="choose another folder, or edit it",
        )
    if state is None and folder.resolve().is_relative_to(CONFIGURATION):
        state = STATE
    text = TEMPLATE.format(
        path=" ".join(str(path).split()),
        id=quoted(site_id),
        host=site_id,
        name=quoted(name or site_id),
        timezone=quoted(timezone),
        state=f"{state}/" if state else "",
    )
    _refuse_what_cannot_be_read_back(text, path, (site_id, name or site_id, timezone))
    made = [folder / "profiles", folder / "secrets"]
    to_read = [p for p in (folder, folder / "profiles") if not p.exists()]
    for sub in made:
        sub.mkdir(parents=True, exist_ok=True)
    (folder / "secrets").chmod(0o700)
    path.write_text(text, encoding="utf-8")
    # The service reads them as somebody else, whatever umask this shell has; they hold no secret.
    for sub in to_read:
        sub.chmod(0o755)
    path.chmod(0o644)
    emit(
        {"file": str(path), "folders": [str(p) for p in made]},
        text=f"{path} written.  Next: sopgw doctor, sopgw scan all --subnet CIDR",
    )


def quoted(text: str) -> str:
    """Write a text so that YAML reads it back: plain where that is safe, else in quotes."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9/_-]*( [A-Za-z0-9/_-]+)*", text) and not _WORD.match(text):
        return text
    return json.dumps(text, ensure_ascii=False)


def _refuse_what_cannot_be_read_back(text: str, path: Path, said: tuple[str, str, str]) -> None:
    """End with exit 2 for a site id, name or time zone that a site file cannot hold."""
    from pydantic import ValidationError

    from gateway.config.site_shape import SiteIdShape
    from gateway.config.yaml_reader import read_text

    document = read_text(text, file=str(path), prefix="C")
    node = document.root.get("site") if document.root is not None else None
    if document.failed or node is None or tuple(node.data().values()) != said:
        raise click.UsageError("the site's id, name or time zone cannot stand in a site file")
    try:
        SiteIdShape.model_validate(node.data())
    except ValidationError as wrong:
        raise click.UsageError("; ".join(e["msg"] for e in wrong.errors())) from None
