"""A site whose machine is lost, and a witness that has seen its ledger."""

import asyncio
import stat
import threading
from pathlib import Path

from aiohttp import web
from fakes.planted_site import site_text

from gateway.journal.ledger_journal import LedgerJournal
from gateway.runtime.clock import SystemClock
from ledger.log import note
from ledger.log.cosign import create_cosigner
from ledger.log.treeview import TreeView
from ledger.network.tls import serving, session
from ledger.network.witness import Witness, collect

SECRET = "correct horse battery staple"
ORIGIN = "elm.example/SOP-1"


class Lost:
    """A site whose machine is lost at will."""

    def __init__(self, folder, sopgw):
        self.sopgw = sopgw
        self.folder, self.file = folder / "etc", folder / "etc" / "site.yaml"
        self.folder.mkdir()
        self.write_site()
        (self.folder / "secrets").mkdir(mode=0o700)
        (self.folder / "secrets" / "broker").write_text("swordfish\n")
        (self.folder / "secrets" / "broker").chmod(0o600)
        self.passphrase = folder / "pass"
        self.passphrase.write_text(SECRET + "\n")
        self.passphrase.chmod(0o600)
        self.usb = folder / "usb"
        self.add(40)

    def write_site(self, witnesses="witnesses: []"):
        text = site_text({"station": 5020, "meters": [5021, 5022, 5023, 5024]})
        assert "witnesses: []" in text
        self.file.write_text(text.replace("witnesses: []", witnesses))

    def add(self, count):
        async def go():
            journal = LedgerJournal.open(
                directory=self.folder / "ledger", origin=ORIGIN,
                key_file=self.folder / "ledger.key", clock=SystemClock(),
            )  # fmt: skip
            for number in range(count):
                await journal.append(
                    "operator", {"user": "t", "verb": "note", "arguments": [number], "reason": ""}
                )
            vkey = journal.vkey
            await journal.close()
            return vkey

        return asyncio.run(go())

    def create(self, *more):
        """Make a backup; return its file."""
        more = more or ("--passphrase-file", self.passphrase)
        answer = self.sopgw("backup", "create", self.usb, *more, "-c", self.file, "--json")
        assert answer.exit_code == 0, answer
        return Path(answer.json["data"]["file"])

    def restore(self, file, *more, opener=None):
        """Put a backup back; return the answer."""
        opener = opener or ("--passphrase-file", self.passphrase)
        words = ("backup", "restore", file, *opener, "-c", self.file, "--json")
        return self.sopgw(*words, *more)

    def older_and_younger(self, see):
        """Return a backup that is older than what a witness has seen, and one that is not."""
        older = self.create()
        see()
        self.add(3)
        keep, self.usb = self.usb, self.usb / "young"
        younger = self.create()
        see()
        self.usb = keep
        return older, younger

    def modes(self):
        files = [p for p in sorted(self.folder.rglob("*")) if p.is_file()]
        return {
            str(p.relative_to(self.folder)): (
                stat.S_IMODE(p.stat().st_mode),
                b"" if p.suffix == ".seg" else p.read_bytes(),
            )
            for p in files
            if p.name not in ("lock", "reserve", "checkpoint", "backups.jsonl")
            and not {"tile", "index.sqlite"} & set(p.parts)
        }


class Seeing:
    """A witness on loopback, in a thread of its own."""

    def __init__(self, lost, folder, *, clients=None):
        self.lost, self.tls = lost, None
        self.cosigner = create_cosigner(folder / "w.key", "west.example/witness", None)
        made = Witness(
            folder / "state", cosigners=[self.cosigner], logs=[note.parse_vkey(lost.add(1))],
            unix_s=lambda: 1_795_000_000,
        )  # fmt: skip
        door = None
        if clients is not None:
            certificate, key = clients.issue("west", server=True)
            door = serving(certificate=certificate, key=key, clients=clients.path)
        self.loop = asyncio.new_event_loop()
        self.runner = web.AppRunner(made.application())
        self.loop.run_until_complete(self.runner.setup())
        self.loop.run_until_complete(
            web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=door).start()
        )
        scheme = "https" if clients is not None else "http"
        self.url = f"{scheme}://127.0.0.1:{self.runner.addresses[0][1]}"
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    @property
    def row(self):
        return f'witnesses: [{{url: "{self.url}", key: "{self.cosigner.key.vkey}"}}]'

    def see(self):
        """Have the ledger as it is cosigned."""

        async def go():
            tree = TreeView.open(self.lost.folder / "ledger")
            async with session(self.tls) as caller:
                got = await collect(caller, tree, {"west": (self.cosigner.key, self.url)})
            assert not got.refused

        asyncio.run(go())

    def end(self):
        async def go():
            await self.runner.cleanup()
            self.loop.stop()

        asyncio.run_coroutine_threadsafe(go(), self.loop)
        self.thread.join()
        self.loop.close()
