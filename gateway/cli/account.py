"""``sopgw account``: people who may log in to the page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.output import ExitCode, emit, fail, group, site_option

if TYPE_CHECKING:
    from gateway.config.site_file import Site

password_option = click.option(
    "--password-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the password, mode 0600; asked for at a terminal without one.",
)


@group(
    "account",
    examples=(
        ("sopgw account add ann --role viewer -c site.yaml", "asks for a password twice"),
        ("sopgw account ls -c site.yaml", "who may log in"),
    ),
)
def account() -> None:
    """People who may log in to the page; a running page takes changes in at once."""


@account.command(
    "add",
    schema="account.add",
    impact="rw",
    examples=(
        ("sopgw account add ann -c site.yaml", "a viewer; add again to change the password"),
        ("sopgw account add bob --role secaud --password-file pw -c site.yaml", "by a script"),
    ),
)
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(("viewer", "operator", "engineer", "secadm", "secaud")),
    default="viewer",
    show_default=True,
    help="What the person is; the page shows all of them the same.",
)
@password_option
@site_option
def add(*, name: str, role: str, password_file: Path | None, config_path: Path) -> None:
    """Add a person, or give one another password or role."""
    from gateway.config.secret import read_secret
    from gateway.hmi import accounts

    site = _site(config_path)
    path = _file(site)
    if not (name.isprintable() and 0 < len(name) <= 40) or name != name.strip():
        fail(ExitCode.USAGE, f"{name!r} is not a name", code="A002", help="1 to 40 characters")
    people = accounts.read(path) if path.exists() else {}
    if password_file is not None:
        password = read_secret(password_file)
    elif sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        message = "no terminal to ask for a password at"
        fail(ExitCode.USAGE, message, code="A003", help="--password-file FILE")
    known = name in people
    people[name] = accounts.new_account(name=name, role=role, password=password)
    accounts.write(path, people, owner=_reader(site))
    data = {"file": str(path), "name": name, "role": role, "changed": known}
    emit(data, text=f"{name} ({role}) may log in{', anew' if known else ''}")


@account.command(
    "ls",
    schema="account.ls",
    examples=(
        ("sopgw account ls -c site.yaml", "names and roles"),
        ("sopgw account ls -c site.yaml --json", "the same for a script"),
    ),
)
@site_option
def ls(*, config_path: Path) -> None:
    """List who may log in."""
    from gateway.hmi import accounts

    path = _file(_site(config_path))
    people = accounts.read(path) if path.exists() else {}
    rows = [{"name": p.name, "role": p.role} for p in people.values()]
    text = "\n".join(f"{p.name}  {p.role}" for p in people.values()) or "nobody may log in"
    emit({"file": str(path), "people": rows}, text=text)


@account.command(
    "rm",
    schema="account.rm",
    impact="rw",
    examples=(
        ("sopgw account rm ann -c site.yaml", "open sessions of hers end at once"),
        ("sopgw account rm ann -c site.yaml --json", "the same for a script"),
    ),
)
@click.argument("name")
@site_option
def rm(*, name: str, config_path: Path) -> None:
    """Take a person's account away."""
    from gateway.hmi import accounts

    site = _site(config_path)
    path = _file(site)
    people = accounts.read(path) if path.exists() else {}
    if name not in people:
        fail(ExitCode.USAGE, f"no account {name}", code="A004", help="`sopgw account ls`")
    del people[name]
    accounts.write(path, people, owner=_reader(site))
    emit({"file": str(path), "name": name}, text=f"{name} may not log in any more")


def _reader(site: Site) -> tuple[int, int] | None:
    """Return whom root writes the file for: the service, whose the ledger's folder is."""
    from gateway.journal.owner import owner_of

    return owner_of(site.ledger.dir)


def _site(config_path: Path) -> Site:
    from gateway.config.site_file import load_site

    return load_site(config_path)


def _file(site: Site) -> Path:
    if site.web is None or site.web.accounts is None:
        message = "the site file names no file of accounts"
        fail(ExitCode.CONFIG, message, code="A001", help="`accounts: accounts.json` under `web:`")
    return site.web.accounts
