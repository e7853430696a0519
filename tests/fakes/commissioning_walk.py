"""Types the walk of docs/commissioning.md again and puts what the program prints into the page.

    python tests/fakes/commissioning_walk.py /tmp/elm           # shows what differs
    python tests/fakes/commissioning_walk.py /tmp/elm --write

Every ``$ sopgw …`` line of the page is typed, in order, at a real terminal against a fresh badly
wired cabinet; questions at the panel are answered by moving the simulated panel.
"""

import argparse
import difflib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
from cabinet import Cabinet

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "commissioning.md"
PLANTS = ["reversed:m2:L2", "words:m3", "ratio:m4:0.5", "watchdog", "door"]
PANEL = (
    ("Turn the switch at the panel to LOCAL", "local"),
    ("Turn the switch back to REMOTE", "remote"),
    ("Open the cabinet door", "open-door"),
    ("Close the cabinet door", "close-door"),
    ("Press the emergency stop", "press"),
    ("Release and reset the emergency stop", "release"),
)
ASKED = [r"press Enter\.[^\n]*\[q\]uit ", r"to go on[^\n]*: ", r"Who witnesses\?[^\n]*\) "]
REPEATED = re.compile(r"\s+(half|point) \d+/\d+")


class Walk:
    """A terminal at the cabinet."""

    def __init__(self, folder, factor):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder = folder
        self.cabinet = Cabinet(folder, PLANTS, factor=factor)
        self.plan = ""
        agent = folder / "agent.sock"
        self.agent = subprocess.Popen(
            ["ssh-agent", "-D", "-a", str(agent)], stdout=subprocess.DEVNULL
        )
        while not agent.exists():
            assert self.agent.poll() is None
        key = folder / "id"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        self.env = self.cabinet.env | {"SSH_AUTH_SOCK": str(agent), "COLUMNS": "120"}
        subprocess.run(["ssh-add", "-q", key], check=True, env=self.env)
        public = key.with_name("id.pub").read_text()
        (folder / "allowed_signers").write_text(f"engineer@example {public}")

    def type(self, line):
        """Run one line; return the line as typed and what it printed, exit code last."""
        line = re.sub(r"\bp-[0-9A-Z]{4}\b", self.plan, line)
        words = shlex.split(line)
        if words[:2] == ["python", "tests/fakes/cabinet.py"]:
            self.cabinet.say(do=words[3])
            return line, ""
        child = pexpect.spawn(
            sys.executable, ["-m", "gateway", *words[1:]], env=self.env, cwd=str(ROOT),
            encoding="utf-8", timeout=900, dimensions=(60, 120),
        )  # fmt: skip
        text = ""
        while (at := child.expect([*ASKED, pexpect.EOF])) < len(ASKED):
            text += child.before + child.after
            if at == 0:
                asked = (child.before + child.after).rsplit("\n", 1)[-1]
                self.cabinet.say(do="panel", what=next(w for t, w in PANEL if t in asked))
            child.sendline(("", "SOP-1", "DSO witness")[at])
        text += child.before
        child.close()
        found = re.search(r"\bp-[0-9A-Z]{4}\b", text)
        self.plan = found[0] if found else self.plan
        if child.exitstatus:
            text = text.rstrip() + f"\nexit {child.exitstatus}\n"
        return line, text

    def close(self):
        self.cabinet.close()
        self.agent.terminate()
        self.agent.wait()


def shortened(text):
    """Leave out the middle of long progress."""
    lines, kept, run = [x.rstrip() for x in text.replace("\r", "").split("\n")], [], []
    for line in [*lines, ""]:
        if REPEATED.match(line):
            run.append(line)
            continue
        kept += run if len(run) <= 3 else [run[0], "  …", run[-1]]
        run = []
        kept.append(line)
    while kept and not kept[-1]:
        kept.pop()
    return kept


def walked(page, walk):
    """The page with every command's output as it is now."""
    out, inside, skipping = [], False, False
    for line in page.split("\n"):
        if line.startswith("```"):
            inside, skipping = not inside, False
        if inside and line.startswith("$ "):
            print(line, file=sys.stderr, flush=True)
            if skipping and out[-1] != "":
                out.append("")
            typed, text = walk.type(line[2:])
            out += [f"$ {typed}", *shortened(text)]
            skipping = True
        elif not (inside and skipping):
            out.append(line)
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--factor", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    before = PAGE.read_text()
    walk = Walk(arguments.folder, arguments.factor)
    try:
        after = walked(before, walk)
    finally:
        walk.close()
    if arguments.write:
        PAGE.write_text(after)
    else:
        lines = difflib.unified_diff(before.split("\n"), after.split("\n"), lineterm="")
        print("\n".join(lines))


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = str(ROOT)
    main()
