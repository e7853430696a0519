"""The shipped site with a converter at every terminal, at the ports where simulated devices listen."""

import json
import socket
import subprocess
import sys
from pathlib import Path

from gateway.runtime.clock import BenchClock, SystemClock

SHIPPED = Path(__file__).resolve().parents[2] / "configs" / "sites" / "separate4.yaml"


def site_text(ports, *, broker=1883):
    """Write its site file; ``ports`` as ``sopsim device`` prints them."""
    text = SHIPPED.read_text(encoding="utf-8").replace(":5020", f":{ports['station']}")
    for number, port in enumerate(ports["meters"], 1):
        text = text.replace(f":502{number}", f":{port}")
    return text.replace(":1883", f":{broker}")


class Bench:
    """Simulated converters and meters in a process of their own."""

    def __init__(self, folder, *, factor=1):
        """``timebase`` is theirs, for programs that shall live as fast."""
        self.folder = folder
        self.control = folder / "sim.sock"
        self.timebase = folder / "timebase.json"
        BenchClock.start(utc_epoch_us=SystemClock().utc_us(), factor=factor).save(self.timebase)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "firmware_sim", "device", "lv4x250", "--port", "0",
             "--control", str(self.control), "--timebase", str(self.timebase)],
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.ports = json.loads(self.process.stdout.readline())["listening"]
        self.site = folder / "site.yaml"
        self.site.write_text(site_text(self.ports), encoding="utf-8")

    def say(self, **order):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.control))
            sock.sendall(json.dumps(order).encode() + b"\n")
            with sock.makefile() as lines:
                return json.loads(lines.readline())

    def truth(self):
        """What the simulator knows."""
        return self.say(query="truth")["truth"]

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
