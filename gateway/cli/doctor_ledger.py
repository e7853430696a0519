"""``sopgw doctor`` on the ledger: do its keys open, and does anybody else vouch for it?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from gateway.cli.doctor_line import Line
from gateway.config import site_file
from gateway.config.problem import ConfigFileError
from gateway.config.site_file import Site
from gateway.journal.anchoring import trust
from gateway.journal.keys import is_protected
from gateway.model.errors import JournalError
from ledger.log import anchor, note, reader, segment
from ledger.log.keys import KeyFileError, load_key
from ledger.log.record import Damage
from ledger.log.segment import LedgerCorrupt


def out_of_reach(id_: str, path: Path) -> Line | None:
    """Say that this user may not even look for a file; None where he may.

    Of a secret that systemd hands over that is as it should be: doctor is asked as the service's
    user, and only the unit is given it.
    """
    try:
        path.stat()
    except PermissionError:
        if path.is_relative_to(site_file.SECRETS):
            return Line(
                id=id_, status="unknown", text=f"{path.name}: only root and the unit may read it"
            )
        fix = f"put it where the service may read it, or under {site_file.SECRETS}"
        return Line(id=id_, status="fail", text=f"{path}: permission denied", fix=fix)
    except OSError:
        return None
    return None


def key_lines(site: Site) -> list[Line]:
    """Whether each key is protected, and whether this gateway could open it."""
    named = site.ledger.passphrase_file
    if named is not None and (line := out_of_reach("key.passphrase", named)):
        return [line]
    paths = [site.ledger.key_file, site.ledger.answer_key_file]
    try:
        passphrase = site.ledger.passphrase()
    except ConfigFileError as error:
        problem = error.problems[0]
        return [
            Line(id="key.passphrase", status="fail", text=problem.message, fix=problem.help or "")
        ]
    lines = []
    for path in paths:
        if line := out_of_reach(f"key.{path.stem}", path):
            lines.append(line)
        elif path.exists():
            lines.append(_key_line(path, passphrase))
    return lines


def _key_line(path: Path, passphrase: bytes | None) -> Line:
    id_ = f"key.{path.stem}"
    try:
        load_key(path, path.stem, passphrase)
        protected = is_protected(path)
    except (KeyFileError, OSError) as error:
        return Line(
            id=id_,
            status="fail",
            text=str(error),
            fix="write its passphrase to a file, chmod 600, and name it under `ledger.passphrase`; "
            "with systemd: LoadCredentialEncrypted= and `passphrase: {secret: NAME}`",
        )
    if protected:
        return Line(id=id_, status="ok", text=f"{path.name} is protected and opens")
    return Line(
        id=id_,
        status="warn",
        text=f"{path.name} is NOT PROTECTED: whoever reads it signs as this gateway",
        fix="name a passphrase before the key is made, or give the key by systemd's "
        "LoadCredentialEncrypted= and `key: {secret: NAME}`",
    )


def anchored_line(site: Site, size: int) -> Line:
    """Whether somebody else has signed what the ledger says, and how far."""
    id_, folder = "ledger.anchored", site.ledger.dir
    urls = [(w.url, w.vkey) for w in site.ledger.witnesses]
    try:
        header = segment.read_header(segment.segments(folder)[-1])
        vkey = reader.vkey_in_force(folder, header)
        against = _against(folder, vkey)
        policy = trust(vkey, urls, site.ledger.policy_file)
    except (JournalError, Damage, IndexError) as error:
        return Line(id=id_, status="fail", text=f"NOT ANCHORED: {error}", fix="mend the policy")
    if against:
        fix = "leave it as it is; find out who set it back, and which copy holds everything"
        return Line(id=id_, status="fail", text=against, fix=fix)
    if policy is None:
        return Line(
            id=id_,
            status="warn",
            text="NOT ANCHORED: no witness is named",
            fix="name witnesses, or a policy, under `ledger:` in the site file",
        )
    found = anchor.anchored(folder, policy, size=size)
    if found is None:
        return Line(
            id=id_,
            status="warn",
            text="NOT ANCHORED: no witness has cosigned yet",
            fix="the running gateway asks them; by hand: sopledger witness submit",
        )
    when = datetime.fromtimestamp(found.time_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    text = f"{found.size} of {size} entries by {', '.join(found.by)} at {when}"
    return Line(id=id_, status="ok", text=text)


def _against(folder: Path, vkey: str) -> str:
    """What the evidence kept beside a ledger says against it; empty for nothing.

    It is read before the ledger is: a gateway that runs adds to both.
    """
    try:
        known = anchor.kept(folder)
        return "; ".join(anchor.contradictions(folder, known, [note.parse_vkey(vkey)]))
    except (note.NoteError, LedgerCorrupt, OSError) as error:
        return f"the kept evidence could not be compared with the ledger: {error}"
