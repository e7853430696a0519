"""A planted site in a process of its own, and what a person does at its panel."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

SITE = Path(__file__).with_name("planted_site.py")


class Cabinet:
    """The simulated site in its own process, and its panel."""

    def __init__(self, folder, plants=(), factor=20):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, str(SITE), "--dir", str(folder), "--factor", str(factor)]
            + [w for p in plants for w in ("--plant", p)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.process.stdout.readline()

    def say(self, **order):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.folder / "control.sock"))
            sock.sendall(json.dumps(order).encode() + b"\n")
            with sock.makefile() as lines:
                return json.loads(lines.readline())

    def close(self):
        self.say(do="quit")
        self.process.wait(timeout=60)
        self.process.stdout.close()

    @property
    def site_text(self):
        """The site file that belongs to it."""
        return (self.folder / "site.yaml").read_text()

    @property
    def env(self):
        """Environment of commands that speak to this site."""
        return dict(os.environ) | {
            "SOPGW_CONFIG": str(self.folder / "site.yaml"),
            "SOPGW_TIMEBASE": str(self.folder / "timebase.json"),
            "NO_COLOR": "1",
            "LC_ALL": "C.UTF-8",
        }


def main():
    """Say something to a cabinet: ``cabinet.py DIR panel local``, ``DIR mend``, ``DIR look``."""
    folder, do, *what = sys.argv[1:]
    order = {"do": do} | ({"what": what[0]} if what else {})
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(Path(folder) / "control.sock"))
        sock.sendall(json.dumps(order).encode() + b"\n")
        with sock.makefile() as lines:
            print(lines.readline().strip())


if __name__ == "__main__":
    main()
