"""The papers of an acceptance run: sign, report, verify, compare; they join ``sopgw sat``."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import click

from gateway.cli.output import ExitCode, Finding, command, emit, fail, note, site_option

ROLES = ("commissioning", "owner", "witness")
LANGUAGES = ("en", "de", "es", "zh")


@command(
    "sign",
    schema="sat.sign",
    impact="rw",
    examples=(
        ("sopgw sat sign -c site.yaml", "by the SSH agent's key, under the key's name"),
        ("sopgw sat sign --role witness --name 'DSO' --paper page.jpg -c site.yaml", "on paper"),
    ),
)
@click.option("--role", type=click.Choice(ROLES), default="commissioning", show_default=True)
@click.option("--name", default="", help="As in allowed_signers; the key's name by default.")
@click.option("--key", type=click.Path(path_type=Path, exists=True), help="Public key, FILE.pub.")
@click.option("--paper", type=click.Path(path_type=Path, exists=True), help="Photo of the page.")
@click.option("--run", "run_id", help="A run by name; the newest by default.")
@click.option("--lang", type=click.Choice(LANGUAGES), default="en", show_default=True)
@site_option
def sign(
    *,
    role: str,
    name: str,
    key: Path | None,
    paper: Path | None,
    run_id: str | None,
    lang: str,
    config_path: Path,
) -> None:
    """Sign a run as it stands, anchor it in the ledger and write the reports again."""
    import asyncio
    import tempfile

    from gateway.cli import sat_store as store
    from gateway.cli.field import clock_of
    from gateway.cli.sat_anchor import anchor
    from gateway.commissioning.sat import report as reports
    from gateway.commissioning.sat import sign as signing
    from gateway.config.site_file import load_site

    site = load_site(config_path)
    record = store.open_run(site, run_id)
    signed_record = reports.record_of(record)
    clock = clock_of()
    with store.sign_errors_told(), tempfile.TemporaryDirectory() as folder:
        if paper is not None:
            name = name or _nameless("a signature on paper")
            signed = signing.paper(role=role, name=name, photo=paper, utc_us=clock.utc_us())
        else:
            public_key = store.public_key_for(key, Path(folder))
            signers = config_path.parent / "allowed_signers"
            name = name or signing.principal_of(public_key, signers) or _nameless("this key")
            signed = signing.sign(
                signed_record,
                role=role,
                name=name,
                public_key=public_key,
                utc_us=clock.utc_us(),
            )
    digest = reports.assemble(signed_record, language=lang)["record_sha256"]
    store.add_line(
        record.folder / store.SIGNED, {"record_sha256": digest, "signature": signed.data()}
    )
    found = asyncio.run(anchor(site, record.id, signed_record, signed))
    if found is not None:
        store.add_line(record.folder / "anchors.jsonl", found)
    forms = tuple(f for f in ("json", "html", "pdf") if (record.folder / f"report.{f}").exists())
    made = store.write_reports(record, language=lang, forms=forms or ("json", "html"))
    emit(
        {
            "run": record.id,
            "role": role,
            "name": name,
            "record_sha256": digest,
            "verdict": signed_record["verdict"],
            "anchor": found,
            "files": [str(p) for p in made],
        },
        text=f"{role} {name} signed run {record.id}: {signed_record['verdict']}\n"
        + (f"anchored in the ledger as #{found['index']}\n" if found else "NOT ANCHORED\n")
        + "\n".join(str(p) for p in made),
    )


def _nameless(what: str) -> NoReturn:
    fail(
        ExitCode.USAGE,
        f"{what} has no name of its own",
        code="S026",
        help="--name NAME, as it stands in allowed_signers",
    )


@command(
    "report",
    schema="sat.report",
    impact="rw",
    examples=(
        ("sopgw sat report --pdf -c site.yaml", "PDF, HTML and JSON of the newest run"),
        ("sopgw sat report 2026-11-21-a --lang zh -c site.yaml", "HTML and JSON in Chinese"),
    ),
)
@click.argument("run_id", required=False)
@click.option("--pdf", is_flag=True, help="The PDF too; needs sop-gateway[report].")
@click.option("--typ", is_flag=True, help="Typst source too, for an archive's tagged PDF/A-3.")
@click.option("--lang", type=click.Choice(LANGUAGES), default="en", show_default=True)
@site_option
def report(*, run_id: str | None, pdf: bool, typ: bool, lang: str, config_path: Path) -> None:
    """Write the report of a run as it stands; the same run gives the same bytes."""
    from gateway.cli import sat_store as store
    from gateway.config.site_file import load_site

    record = store.open_run(load_site(config_path), run_id)
    forms = ("json", "html", *(("pdf",) if pdf else ()), *(("typ",) if typ else ()))
    made = store.write_reports(record, language=lang, forms=forms)
    emit(
        {
            "run": record.id,
            "verdict": record.state().verdict,
            "files": [str(p) for p in made],
        },
        text="\n".join(str(p) for p in made),
    )


@command(
    "verify",
    schema="sat.verify",
    examples=(
        ("sopgw sat verify report.pdf --signers allowed_signers", "every byte and signature"),
        ("sopgw sat verify report.html --signers allowed_signers --ledger ledger", "and when"),
    ),
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--signers", type=click.Path(path_type=Path, exists=True), help="allowed_signers.")
@click.option("--ledger", type=click.Path(path_type=Path, exists=True), help="Ledger directory.")
def verify(*, file: Path, signers: Path | None, ledger: Path | None) -> None:
    """Verify a report: drawn again in every byte, signatures, anchor; needs no site file."""
    from gateway.cli.sat_read import find_anchor
    from gateway.commissioning.sat.verify import verify as verify_report

    pdf_tools = None
    try:
        from gateway.commissioning.sat import pdf

        pdf_tools = (pdf.attached, pdf.render)
    except ImportError:
        note("fpdf2 is not installed: a PDF cannot be checked")
    found = verify_report(
        file.read_bytes(),
        allowed_signers=signers,
        pdf=pdf_tools,
        anchored=None if ledger is None else lambda a: find_anchor(ledger, a),
    )
    lines = ["Checked", *(f"  ✓ {t}" for t in found.checked)]
    if found.not_checked:
        lines += ["Not checked", *(f"  – {t}" for t in found.not_checked)]
    lines += [f"✗ {t}" for t in found.problems]
    lines.append("no errors were found" if found.ok else f"{len(found.problems)} errors were found")
    emit(
        {
            "file": str(file),
            "checked": found.checked,
            "not_checked": found.not_checked,
            "problems": found.problems,
        },
        text="\n".join(lines),
        exit_code=ExitCode.OK if found.ok else ExitCode.TAMPERED,
        findings=[Finding(code="S050", message=t) for t in found.problems],
    )


@command(
    "compare",
    schema="sat.compare",
    examples=(
        ("sopgw sat compare fat/report.json sat/report.json", "bench and site side by side"),
        ("sopgw sat compare fat.html sat.html --json", "for a script"),
    ),
)
@click.argument("first", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("second", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def compare(*, first: Path, second: Path) -> None:
    """Compare two reports of one plan; exit 1 when something passed only in the first."""
    from gateway.cli.sat_read import read_report
    from gateway.commissioning.sat.compare import compare as compare_reports

    result = compare_reports(read_report(first), read_report(second))
    rows = [
        {
            "check": d.check,
            "title": d.title,
            "name": d.name,
            "first": d.first_text,
            "second": d.second_text,
            "change_pct": d.change_pct,
            "worse": d.worse,
        }
        for d in result.differences
    ]
    lines = [
        f"{'✗' if d.worse else ' '} {d.check:<5} {d.name or 'status':<28} {d.first_text} → "
        f"{d.second_text}" + ("" if d.change_pct is None else f"  ({d.change_pct:+.1f} %)")
        for d in result.differences
    ]
    lines += [f"– {t}" for t in result.not_comparable]
    lines.append(f"{result.compared_count} checks compared, {len(rows)} differences")
    emit(
        {
            "compared": result.compared_count,
            "differences": rows,
            "not_comparable": list(result.not_comparable),
        },
        text="\n".join(lines),
        exit_code=ExitCode.FAILED if result.worse else ExitCode.OK,
        findings=[Finding(code="S051", message="something passed only in the first")]
        if result.worse
        else (),
    )
