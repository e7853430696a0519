"""``sopgw init``: a folder to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.output import ExitCode, command, emit, fail


@command(
    "init",
    schema="init",
    impact="rw",
    examples=(
        (
            "sopgw init /etc/sopgw --site 'Elm Street'",
            "a commented site file, folders for the rest",
        ),
        ("sopgw init . --timezone Europe/Madrid", "here, with local times for people"),
    ),
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--site", "name", default="My site", show_default=True, help="Name for people.")
@click.option("--timezone", default="UTC", show_default=True, help="Where people read times.")
def init(folder: Path, name: str, timezone: str) -> None:
    """Write a commented site file to begin with; nothing that exists is touched.

    It starts as the simulated bench in mode `blocked`: every key is there, and it checks.
    """
    from gateway.config.problem import ConfigFileError
    from gateway.config.schema import shipped_folder
    from gateway.config.site_file import site_from_text
    from gateway.config.site_new import new_site

    target = folder / "sopgw.yaml"
    schema = str(shipped_folder() / "config.schema.json")
    text = new_site(name=name, timezone=timezone, file=str(target), schema=schema)
    document, site = site_from_text(text, path=target)
    if site is None:
        raise ConfigFileError(document.problems)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        fail(
            ExitCode.REFUSED,
            f"{target} exists and was left alone",
            code="E005",
            help="name another folder",
        )
    (folder / "profiles").mkdir(exist_ok=True)
    (folder / "secrets").mkdir(mode=0o700, exist_ok=True)
    steps = [
        f"sopledger init {site.ledger.dir} --origin {site.ledger.origin}",
        "sopgw scan all",
        f"sopgw config check {target}",
    ]
    emit(
        {"written": str(target), "site": site.id, "next": steps},
        text="\n".join(
            [
                f"Wrote {target}: the bench under the name {name}, mode blocked.",
                "Next:",
                *(f"  {s}" for s in steps),
            ]
        ),
    )
