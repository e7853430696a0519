"""Changes of a site file by commands: shown before they are written, every other byte stays."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from gateway.cli.output import ExitCode, Finding, emit, say


def text_of(path: Path) -> str:
    """Return the file's text once it reads as YAML.

    Raises:
        ConfigFileError: if it does not.
    """
    from gateway.config.yaml_reader import read_file

    read_file(path, prefix="C").raise_if_failed()
    return path.read_text(encoding="utf-8")


def refuse_new_problems(before: str, after: str, path: Path) -> None:
    """Let a change pass that makes nothing wrong which was not wrong already.

    Raises:
        ConfigFileError: with what the change would make wrong.
    """
    from gateway.config.problem import ConfigFileError
    from gateway.config.site_file import site_from_text

    known = {(p.code, p.message) for p in site_from_text(before, path=path)[0].problems}
    checked, _ = site_from_text(after, path=path)  # other lines now: told apart by their words
    errors = [p for p in checked.problems if p.severity == "error"]
    new = [p for p in errors if (p.code, p.message) not in known]
    if checked.failed and new:
        raise ConfigFileError(new)


def propose(data: dict[str, object], *, before: str, after: str, path: Path, write: bool) -> None:
    """Show the change; write it if that was asked for, else end as unconfirmed."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), str(path), str(path), lineterm="", n=1
    )
    diff = "\n".join(lines)
    say(diff)
    finding = Finding(code="D110", message="nothing was written", help="the same with --yes")
    if write:
        write_whole(path, after)
    emit(
        {**data, "file": str(path), "diff": diff},
        text=f"Wrote {path}." if write else "",
        exit_code=ExitCode.OK if write else ExitCode.UNCONFIRMED,
        findings=() if write else (finding,),
    )


def write_whole(path: Path, text: str) -> None:
    """Replace the file at once; owner and rights stay, so that the service can still read it."""
    old = path.stat()
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        if os.geteuid() == 0:
            os.fchown(stream.fileno(), old.st_uid, old.st_gid)
        os.fchmod(stream.fileno(), old.st_mode & 0o777)
        os.fsync(stream.fileno())
    new.replace(path)
