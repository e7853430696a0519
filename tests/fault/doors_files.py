"""Bad files at the commands that read them: a refusal with a reason each time. See ``fuzz_doors.py``.

Commands run in this process, by the same way in as the program's own; what they print is read.
"""

import asyncio
import contextlib
import functools
import io
import itertools
import json
import shutil
import sys
from collections import Counter
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from fakes.lost_site import Lost
from fault.doors_market import KEY, START_MS, trade_document
from fault.doors_pieces import mutated, odd_json, odd_lines

from gateway.__main__ import main as sopgw
from gateway.cli import backup_box
from gateway.commissioning.plan import HardwarePlan, Level, PlanGone, PlanStore, boot_id
from gateway.config import profile_file as profile_reader
from gateway.config.alarm_file import load_alarms
from gateway.config.problem import ConfigFileError
from gateway.hmi import accounts
from gateway.market import dsse, schedule_reader, schedule_xml
from gateway.model.errors import ConfigError
from gateway.runtime.clock import SystemClock
from ledger.cli import sopledger
from ledger.cli.output import run as run_ledger
from ledger.contracts.document import DocumentRefused
from ledger.log.treeview import TreeView
from ledger.network import config as node_file

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
INTERNAL = 11  # what both programs end with where they are wrong themselves


def said(run, *words):
    """Run a command; return its exit code and all it printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = run([str(w) for w in words])
    return code, out.getvalue()


def ledger(words):
    return run_ledger(sopledger, words)


class Commanded:
    """A file that a command reads; the good one ends with ``good_code``."""

    def __init__(self, path, piece, odd, *commands, good_code=0):
        self.path, self.piece, self.odd = path, piece, odd
        self.commands, self.good_code = commands, good_code

    def tried(self, data):
        """Give the commands a file; return what came of it."""
        self.path.write_bytes(data)
        codes = []
        for run, *words in self.commands:
            code, text = said(run, *words)
            if code == INTERNAL or "Traceback" in text:
                raise SystemExit(f"{words[:2]} is wrong itself after {data!r}: {text[-2000:]}")
            codes.append(code)
        return max(codes)


class Parsed:
    """A file that a parser reads; it refuses with one of ``errors``.

    Where ``command`` is given, every twentieth file goes through that as well.
    """

    good_code = 0

    def __init__(self, path, piece, odd, parser, *errors, command=None):
        self.path, self.piece, self.odd = path, piece, odd
        self.parser, self.errors = parser, errors
        self.command = command and Commanded(path, piece, odd, command)
        self.numbers = itertools.count()

    def tried(self, data):
        """Give the parser a file; return 0 for taken, 1 for refused."""
        self.path.write_bytes(data)
        if self.command is not None and next(self.numbers) % 20 == 0:
            self.command.tried(data)
        try:
            return 1 if self.parser(self.path) else 0
        except self.errors:
            return 1
        except Exception as error:
            raise SystemExit(f"{self.path.name}: {error!r} after {data!r}") from error


def site_file(folder):
    """A site file; the shipped profiles it names are read once, they are a door of their own."""
    profile_reader.check_profile = functools.cache(profile_reader.check_profile)
    path = folder / "site.yaml"
    shutil.copytree(CONFIGS / "profiles", folder / "profiles")
    piece = (CONFIGS / "sites" / "bench4.yaml").read_bytes()
    return Commanded(path, piece, odd_lines, (sopgw, "config", "check", path))


def profile_file(folder):
    path = folder / "abb-b23.yaml"
    piece = (CONFIGS / "profiles" / "abb-b23.yaml").read_bytes()
    return Commanded(path, piece, odd_lines, (sopgw, "profile", "check", path))


def station_profile(folder):
    path = folder / "sop-station-v1.yaml"
    piece = (CONFIGS / "profiles" / "sop-station-v1.yaml").read_bytes()
    return Commanded(path, piece, odd_lines, (sopgw, "profile", "check", path))


def alarm_file(folder):
    path = folder / "alarms.yaml"
    piece = (CONFIGS / "alarms.yaml").read_bytes()
    return Parsed(path, piece, odd_lines, _none(load_alarms), ConfigFileError)


def plan_file(folder):
    """A plan that waits, shown to whoever would apply it."""
    site = folder / "site.yaml"
    shutil.copytree(CONFIGS / "profiles", folder / "profiles")
    site.write_bytes((CONFIGS / "sites" / "bench4.yaml").read_bytes())
    clock = SystemClock()
    made = HardwarePlan(
        id="p-AAAA", command=("point", "write", "T1.p_set=0"), sop="SOP-1", level=Level.SEVERE,
        lines=("T1 to 0 kW",), frames=("0110",), site_sha256="0" * 64, state={"state": "RUN"},
        boot_id=boot_id(), expires_mono_us=clock.mono_us() + 10**12, created_utc_us=clock.utc_us(),
    )  # fmt: skip
    path = folder / "plans" / "p-AAAA.json"
    path.parent.mkdir()
    store = PlanStore(path.parent, mono_us=clock.mono_us, utc_us=clock.utc_us)
    return Parsed(
        path, json.dumps(made.data()).encode(), odd_json,
        _none(lambda path: store.load(path.stem)), PlanGone,
        command=(sopgw, "plan", "show", "p-AAAA", "-c", site),
    )  # fmt: skip


def trade_file(folder):
    """A market document: bare to be signed, signed to be written as XML."""
    path, key = folder / "trade.json", folder / "market.pem"
    key.write_bytes(
        KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )  # fmt: skip
    key.chmod(0o600)
    return Commanded(
        path, trade_document(1, start_ms=START_MS), odd_json,
        (sopgw, "trade", "sign", path, "--key", key, "-o", folder / "signed.json"),
        (sopgw, "trade", "export", path, "--format", "xml", "-o", folder / "out"),
    )  # fmt: skip


def signed_trade_file(folder):
    """A signed market document: co-signed, or written as XML."""
    made = trade_file(folder)
    made.piece = dsse.sign(dsse.PAYLOAD_TYPE_SCHEDULE, made.piece, [KEY])
    return made


def xml_file(folder):
    """A schedule document in the standard's XML, held against its schema."""
    document = schedule_reader.read(trade_document(1, start_ms=START_MS))
    piece = schedule_xml.write(document)
    schema = schedule_xml.schema()
    return Parsed(
        folder / "schedule.xml", piece, _bytes, lambda path: schema.faults(path.read_bytes())
    )


def node_document(folder):
    path = folder / "node.yaml"
    piece = (CONFIGS / "rounds" / "node-of-four.yaml").read_bytes()
    return Parsed(path, piece, odd_lines, _none(node_file.load), DocumentRefused)


def round_file(folder):
    path = folder / "round.json"
    piece = (CONFIGS / "rounds" / "four-terminals.json").read_bytes()
    return Commanded(path, piece, odd_json, (ledger, "settle", "hco", path))


def accounts_file(folder):
    accounts.MEMORY_KIB = 64  # guessing passwords is not what is tried here
    path = folder / "accounts.json"
    ann = accounts.new_account(name="ann", role="viewer", password="correct horse battery")
    accounts.write(path, {"ann": ann})
    return Parsed(path, path.read_bytes(), odd_json, _none(accounts.read), ConfigError)


def sealed(folder):
    """Back up a site with a ledger; returns site, backup, and what opens it."""
    site = Lost(folder, None)
    identity = folder / "backup.key"
    recipient = backup_box.new_identity(identity)
    code, text = said(
        sopgw, "backup", "create", folder / "usb", "--recipient", recipient, "-c", site.file
    )
    assert code == 0, text
    (made,) = (folder / "usb").iterdir()
    return site, made, identity


def backup_file(folder):
    """A sealed backup; its header and its chunks."""
    _, made, identity = sealed(folder)
    path = folder / "x.sopbackup"
    return Commanded(
        path, made.read_bytes(), _bytes, (sopgw, "backup", "verify", path, "--identity", identity)
    )


def receipt_file(folder):
    """A kept receipt that a restore is held against; a good one lets it go on to the question."""
    site, made, identity = sealed(folder)
    path = folder / "kept.json"
    checkpoint = TreeView.open(site.folder / "ledger").checkpoint.decode()
    words = ("--identity", identity, "--receipt", path, "-c", site.file)
    return Commanded(
        path, json.dumps({"checkpoint": checkpoint}).encode(), odd_json,
        (sopgw, "backup", "restore", made, *words), good_code=6,
    )  # fmt: skip


def _bytes(piece, chance):
    return mutated(piece, chance)


def _none(parser):
    """What is read without an error is taken."""

    def read(path):
        parser(path)

    return read


FILES = {
    "site-file": (site_file,),
    "profile": (profile_file, station_profile),
    "alarm-file": (alarm_file,),
    "plan-file": (plan_file,),
    "trade-document": (trade_file, signed_trade_file),
    "schedule-xml": (xml_file,),
    "node-file": (node_document,),
    "round-document": (round_file,),
    "accounts-file": (accounts_file,),
    "backup-file": (backup_file,),
    "receipt": (receipt_file,),
}


def file_door(name):
    """Return the campaign of one kind of file."""

    async def door(folder, count, chance, counts):
        # In a thread: commands have a loop of their own.
        counts.update(await asyncio.to_thread(_campaign, name, folder, count, chance))
        print(f"{name}: {count} pieces", file=sys.stderr)

    return door


def _campaign(name, folder, count, chance):
    counts, kinds = Counter(), FILES[name]
    for number, make in enumerate(kinds):
        target = make(_new(folder / str(number)))
        for done in range(number, count, len(kinds)):
            if done % 500 < len(kinds):
                _good(name, target)
            code = target.tried(target.odd(target.piece, chance))
            counts[name, "taken" if code == target.good_code else "refused"] += 1
        _good(name, target)
    return counts


def _new(folder):
    folder.mkdir()
    return folder


def _good(name, target):
    code = target.tried(target.piece)
    assert code == target.good_code, f"{name}: the good one ends with {code}"
