"""``sopgw profile``: device profiles, any file and not only the shipped ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.config import file_answer, findings_of
from gateway.cli.output import ExitCode, Finding, emit, fail, group

if TYPE_CHECKING:
    from gateway.devices.profile import Point, Profile

FILES = click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))


def profile_names(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a profile; a path is completed by the shell's own means."""
    from gateway.config.profile_folders import profile_paths

    return [path.stem for path in profile_paths() if path.stem.startswith(incomplete)]


NAME = click.argument("name", shell_complete=profile_names)
FOLDERS = click.option(
    "--profiles",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with more profiles.",
)


@group(
    "profile",
    examples=(
        ("sopgw profile check my.yaml", "every mistake at once, with line, column and mend"),
        ("sopgw profile test my.yaml", "vectors and round trips, no hardware needed"),
    ),
)
def profile() -> None:
    """Device profiles: one YAML file makes a driver, its tests and its page."""


@profile.command(
    "ls",
    schema="profile.ls",
    examples=(
        ("sopgw profile ls", "all that can be found"),
        ("sopgw profile ls schneider", "those with the word in name, maker or model"),
    ),
)
@click.argument("word", default="")
@FOLDERS
def ls(word: str, folders: tuple[Path, ...]) -> None:
    """List profiles."""
    from gateway.config.profile_file import check_profile, profile_paths

    rows = []
    for path in profile_paths(folders):
        _, found = check_profile(path)
        row = {
            "profile": path.stem,
            "file": str(path),
            "ok": found is not None,
            "kind": str(found.kind) if found else "",
            "protocol": str(found.protocol) if found else "",
            "vendor": found.vendor if found else "",
            "models": list(found.models) if found else [],
            "verified": found.verified.level if found else "",
            "points_count": sum(1 for _ in found.all_points()) if found else 0,
        }
        if word.lower() in " ".join([path.stem, str(row["vendor"]), *row["models"]]).lower():  # type: ignore[misc]
            rows.append(row)
    lines = [f"{'profile':<26} {'kind':<10} {'protocol':<9} {'verified':<9} points  models"]
    for row in rows:
        models = ", ".join(row["models"])  # type: ignore[arg-type]
        if row["ok"]:
            lines.append(
                f"{row['profile']:<26} {row['kind']:<10} {row['protocol']:<9} "
                f"{row['verified']:<9} {row['points_count']:>6}  {row['vendor']} {models}"
            )
        else:
            lines.append(f"{row['profile']:<26} has mistakes: sopgw profile check {row['file']}")
    emit({"profiles": rows}, text="\n".join(lines))


@profile.command(
    "show",
    schema="profile.show",
    examples=(
        ("sopgw profile show schneider-iem3255", "a shipped profile"),
        ("sopgw profile show my.yaml", "any file"),
    ),
)
@NAME
@FOLDERS
def show(name: str, folders: tuple[Path, ...]) -> None:
    """Show the points of a profile as the driver sees them."""
    from gateway.config.profile_file import load_profile

    found = load_profile(name, folders)
    rows = [_point_row(point) for point in found.all_points()]
    lines = [f"{found.id}  {found.vendor} {', '.join(found.models)}  ({found.kind})"]
    for row in rows:
        lines.append(
            f"  {row['name']:<18} {row['place']:<15} {row['type']:<8} "
            f"{row['scale']:>6} {row['unit']:<5} {row['access']:<2} {row['readback']}"
        )
    emit({"profile": found.id, "points": rows}, text="\n".join(lines))


def _point_row(point: Point) -> dict[str, Any]:
    place = point.register.text if point.register else ""
    if point.node is not None:
        place = point.node.node or point.node.path or point.node.method
    if point.bit_index is not None:
        place += f".{point.bit_index}"
    return {
        "name": point.name,
        "place": place,
        "type": str(point.type),
        "scale": str(point.scale),
        "unit": point.unit,
        "access": str(point.access),
        "readback": point.readback or "",
        "poll_ms": point.poll_ms,
        "doc": point.doc_number,
        "iec61850": point.iec61850,
    }


@profile.command(
    "check",
    schema="profile.check",
    examples=(
        ("sopgw profile check my.yaml", "one file"),
        ("sopgw profile check configs/profiles/*.yaml --json", "many, for a script"),
    ),
)
@FILES
def check(files: tuple[Path, ...]) -> None:
    """Read profile files and print every mistake: units, overlaps, numbers, readbacks, vectors."""
    from gateway.config.problem import report_text
    from gateway.config.profile_file import check_profile

    answers, texts, findings = [], [], []
    for path in files:
        document, found = check_profile(path)
        answers.append(
            {**file_answer(path, document.problems), "profile": found.id if found else None}
        )
        findings += findings_of(p for p in document.problems if p.severity == "error")
        texts.append(report_text(document.problems, file=str(path)))
    emit(
        {"files": answers},
        text="\n\n".join(texts),
        exit_code=ExitCode.CONFIG if findings else ExitCode.OK,
        findings=findings,
    )


@profile.command(
    "test",
    schema="profile.test",
    examples=(
        ("sopgw profile test my.yaml", "vectors, and every point read and written back"),
        ("sopgw profile test configs/profiles/*.yaml", "many files"),
    ),
)
@FILES
def test(files: tuple[Path, ...]) -> None:
    """Run a profile's vectors and round trips through the drivers' codec; no hardware."""
    from gateway.config.problem import ConfigFileError
    from gateway.config.profile_file import check_profile

    answers, texts, findings, broken = [], [], [], []
    for path in files:
        document, found = check_profile(path, vectors=False)
        if found is None:
            broken += document.problems
            continue
        answer, wrong = _tested(path, found)
        answers.append(answer)
        findings += wrong
        texts.append(_test_text(answer, wrong))
    if broken:
        raise ConfigFileError(broken)
    emit(
        {"files": answers},
        text="\n".join(texts),
        exit_code=ExitCode.FAILED if findings else ExitCode.OK,
        findings=findings,
    )


def _tested(path: Path, found: Profile) -> tuple[dict[str, Any], list[Finding]]:
    from gateway.config.profile_vectors import hex_text, round_trip, run_vector
    from gateway.devices.profile import Protocol

    vectors, trips, wrong = [], [], []
    if found.protocol is Protocol.MODBUS:
        for vector in found.tests:
            outcome = run_vector(found, vector)
            registers = hex_text(vector.registers)
            vectors.append(
                {
                    "point": vector.point,
                    "registers": registers,
                    "write": vector.write,
                    "got": outcome.got,
                    "ok": outcome.ok,
                }
            )
            if not outcome.ok:
                wrong.append(
                    Finding(
                        code="P028",
                        message=f"vector of “{vector.point}”: {registers} gives {outcome.got}",
                        where=str(path),
                        help="check type, word order and scale",
                    )
                )
        for point in found.all_points():
            trip = round_trip(found, point.name)
            trips.append(
                {
                    "point": trip.point,
                    "patterns_count": trip.pattern_count,
                    "failed": list(trip.failed),
                }
            )
            wrong += [
                Finding(code="P055", message=f"“{trip.point}”: {text}", where=str(path))
                for text in trip.failed
            ]
    return {"file": str(path), "profile": found.id, "vectors": vectors, "round_trips": trips}, wrong


def _test_text(answer: dict[str, Any], wrong: list[Finding]) -> str:
    vectors, trips = answer["vectors"], answer["round_trips"]
    good = sum(v["ok"] for v in vectors)
    patterns = sum(t["patterns_count"] for t in trips)
    lines = [f.text() for f in wrong]
    lines.append(
        f"{answer['file']}: {good} of {len(vectors)} vectors, {len(trips)} points read and "
        f"written back over {patterns} patterns, {len(wrong)} failures."
    )
    return "\n".join(lines)


@profile.command(
    "match",
    schema="profile.match",
    examples=(
        ("sopgw profile match modbus+tcp://192.168.10.30", "which profile fits this device"),
        ("sopgw profile match modbus+tcp://127.0.0.1:5020 --unit 100", "a certain unit"),
    ),
)
@click.argument("where")
@click.option("--unit", type=click.IntRange(0, 255), help="Modbus unit; the profiles' by default.")
@click.option("--top", default=5, show_default=True, help="How many to show.")
@FOLDERS
def match(where: str, unit: int | None, top: int, folders: tuple[Path, ...]) -> None:
    """Ask a device which profile fits it; only reads."""
    import asyncio

    from gateway.config.profile_file import check_profile, profile_paths
    from gateway.config.profile_match import match_profiles

    url = where if "://" in where else f"modbus+tcp://{where}"
    profiles = [p for path in profile_paths(folders) if (p := check_profile(path)[1]) is not None]
    matches = asyncio.run(match_profiles(url, profiles, unit_id=unit, timeout_s=1.0))[:top]
    rows = [
        {
            "profile": m.profile,
            "unit": m.unit,
            "fits": m.fits,
            "fitting_count": m.fitting_count,
            "checks": [
                {"register": s.register, "values": list(s.values), "wanted": s.wanted, "ok": s.ok}
                for s in m.seen
            ],
        }
        for m in matches
    ]
    lines = []
    for m in matches:
        lines.append(
            f"{m.profile:<26} unit {m.unit:<3} fits {m.fitting_count} of {len(m.seen)} checks"
        )
        lines += [
            f"  {'✓' if s.ok else '✗'} {s.register:<15} {', '.join(s.values)}  wanted {s.wanted}"
            for s in m.seen
        ]
    fits = any(m.fits for m in matches)
    finding = Finding(
        code="P060",
        message=f"no profile fits {url}",
        help="sopgw profile new --from csv registers.csv",
    )
    emit(
        {"where": url, "matches": rows},
        text="\n".join(lines),
        exit_code=ExitCode.OK if fits else ExitCode.UNDECIDED,
        findings=[] if fits else [finding],
    )


@profile.command(
    "new",
    schema="profile.new",
    impact="rw",
    examples=(
        ("sopgw profile new acme-meter --from registers.csv", "a first profile from a table"),
        ("sopgw profile new acme --from r.csv --kind converter -o acme.yaml", "where to write it"),
    ),
)
@click.argument("name")
@click.option(
    "--from",
    "source",
    required=True,
    type=click.Path(path_type=Path),
    help="Table of registers (CSV) with a header.",
)
@click.option(
    "--kind",
    type=click.Choice(["meter", "converter", "sensor", "breaker"]),
    default="meter",
    show_default=True,
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write; NAME.yaml by default."
)
def new(name: str, source: Path, kind: str, output: Path | None) -> None:
    """Make a profile from a table of registers; an existing file is left alone."""
    from gateway.config.problem import ConfigFileError, report_text
    from gateway.config.profile_file import profile_from_text
    from gateway.config.profile_new import profile_from_csv

    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        fail(
            ExitCode.CONFIG,
            "the table is not UTF-8",
            code="P002",
            where=str(source),
            help="save it as UTF-8",
        )
    document, made = profile_from_csv(text, file=str(source), name=name, kind=kind)
    if document.failed:
        raise ConfigFileError(document.problems)
    target = output or Path(f"{name}.yaml")
    checked, _ = profile_from_text(made, file=str(target))
    try:
        with target.open("x", encoding="utf-8") as stream:
            stream.write(made)
    except FileExistsError:
        fail(
            ExitCode.REFUSED,
            f"{target} exists and was left alone",
            code="E005",
            help="name another file with -o",
        )
    answer = file_answer(target, checked.problems)
    lines = [
        report_text(checked.problems, file=str(target)),
        f"Wrote {target}. Next: sopgw profile check {target}",
    ]
    emit({"written": str(target), "check": answer}, text="\n\n".join(lines))


@profile.command(
    "doc",
    schema="profile.doc",
    examples=(
        ("sopgw profile doc schneider-iem3255", "its page, in Markdown"),
        ("sopgw profile doc my.yaml > my.md", "into a file"),
    ),
)
@NAME
@FOLDERS
def doc(name: str, folders: tuple[Path, ...]) -> None:
    """Write the page of a profile."""
    from gateway.config.profile_file import load_profile
    from gateway.config.profile_page import page_of

    found = load_profile(name, folders)
    text = page_of(found)
    emit({"profile": found.id, "markdown": text}, text=text)
