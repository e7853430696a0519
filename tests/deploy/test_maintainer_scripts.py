"""What the package's scripts start, stop and keep: run for real, with a stand-in for systemctl.

dpkg's own order of calls is played here; the whole of it with dpkg and systemd is in system_test.sh.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "configs/debian"
GATEWAY, NODE = "sopgw.service", "sopledger-node@north.service"
SYSTEMCTL = """\
#!/bin/sh
cd {root}
echo "$*" >> calls
case "$1" in
    list-units) for unit in active/*; do [ ! -e "$unit" ] || echo "${{unit#active/}} loaded active running words"; done ;;
    is-active) [ -e active/sopgw.service ] ;;
    show) cat status 2>/dev/null ;;
    stop) shift; for one in "$@"; do rm -f active/$one; done ;;
    enable) [ ! -e "masked/$3" ] && touch "enabled/$3" ;;
    start|restart)
        # As the unit does: a gateway whose site file the program refuses does not start.
        if [ "$2" = sopgw.service ]; then opt/sopgw/bin/sopgw config check || exit 1; fi
        [ ! -e "masked/$2" ] && touch "active/$2" ;;
esac
"""


class Machine:
    """A root of files, with the package's scripts led into it."""

    def __init__(self, root):
        self.root, self.tree = root, root / "opt/sopgw"
        for name in ("run/systemd/system", "etc/sopgw", "opt", "usr/lib/sopgw", "tools",
                     "active", "enabled", "masked", "var/lib"):  # fmt: skip
            (root / name).mkdir(parents=True)
        for name in ("preinst", "postinst", "prerm", "postrm", "rollback"):
            text = re.sub(
                r"(?<![\w.])/(opt|etc|run|usr|var)/",
                rf"{root}/\1/",
                (SCRIPTS / name).read_text(),
            )
            self.program(f"usr/lib/sopgw/{name}", text)
        self.program("tools/systemctl", SYSTEMCTL.format(root=root))
        self.program("tools/dpkg-query", f"#!/bin/sh\ncat {root}/dpkg-version\n")
        for name in ("systemd-sysusers", "systemd-tmpfiles", "udevadm"):
            self.program(f"tools/{name}", "#!/bin/sh\n")

    def program(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def call(self, script, *words, cwd=None, **environment):
        path = f"{self.root}/tools:{os.environ['PATH']}"
        return subprocess.run(
            ["sh", self.root / "usr/lib/sopgw" / script, *words],
            env={"PATH": path, **environment}, capture_output=True, text=True, cwd=cwd,
        )  # fmt: skip

    def unpack(self, version, refuses=False):
        """Lay a version's files as dpkg does: into what lies there, its own new file beside."""
        check = "exit 3" if refuses else "exit 0"
        self.program("opt/sopgw/bin/sopgw.dpkg-new", f"#!/bin/sh\n{check}\n")
        (self.tree / "bin/sopgw.dpkg-new").rename(self.tree / "bin/sopgw")
        self.program("opt/sopgw/bin/python.dpkg-new", "#!/bin/sh\nexit 0\n")
        (self.tree / "bin/python.dpkg-new").rename(self.tree / "bin/python")
        (self.tree / f"lib-{version}").write_text("")
        (self.tree / "version.dpkg-new").write_text(f"{version}\n")
        (self.tree / "version.dpkg-new").rename(self.tree / "version")
        (self.root / "dpkg-version").write_text(version)

    def install(self, version="1"):
        self.unpack(version)
        done = self.call("postinst", "configure", "")
        assert done.returncode == 0, done.stderr
        return done

    def upgrade(self, version="2", old="1", refuses=False):
        """What dpkg calls, in its order; the result of postinst."""
        for script, words in (("prerm", ("upgrade", version)), ("preinst", ("upgrade", old))):
            done = self.call(script, *words)
            assert done.returncode == 0, done.stderr
        known = {"bin", "version", f"lib-{old}", f"lib-{version}"}
        self.unpack(version, refuses=refuses)
        for path in self.tree.iterdir():  # of the old version dpkg removes what it knows
            if path.name in known and path.name == f"lib-{old}" != f"lib-{version}":
                path.unlink()
        return self.call("postinst", "configure", old)

    def runs(self):
        return {p.name for p in (self.root / "active").iterdir()}

    def set(self, what, unit, there=True):
        path = self.root / what / unit
        path.touch() if there else path.unlink(missing_ok=True)

    def here(self):
        return sorted(p.name for p in self.tree.iterdir())

    @property
    def list(self):
        return self.root / "run/sopgw.restart"


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def installed(machine):
    machine.install()
    (machine.root / "etc/sopgw/sopgw.yaml").write_text("")
    return machine


def test_a_first_installation_enables_and_starts_the_gateway(machine):
    machine.install()
    assert machine.runs() == {GATEWAY}
    assert (machine.root / "enabled" / GATEWAY).exists()
    assert not machine.list.exists()


def test_one_masked_before_the_first_installation_stays_masked_and_the_package_is_whole(machine):
    machine.set("masked", GATEWAY)
    machine.install()
    assert machine.runs() == set()


@pytest.mark.parametrize("how", ["stopped", "disabled", "masked"])
def test_an_upgrade_starts_nothing_that_people_stopped_disabled_or_masked(installed, how):
    installed.set("active", GATEWAY, there=False)
    if how != "stopped":
        installed.set("enabled", GATEWAY, there=False)
    if how == "masked":
        installed.set("masked", GATEWAY)
    done = installed.upgrade()
    assert done.returncode == 0, done.stderr
    assert "did not run and is left so" in done.stderr
    assert installed.runs() == set()
    assert (installed.root / "enabled" / GATEWAY).exists() is (how == "stopped")


def test_an_upgrade_starts_what_ran_the_nodes_too(installed):
    installed.set("active", NODE)
    assert installed.upgrade().returncode == 0
    assert installed.runs() == {GATEWAY, NODE}
    assert not installed.list.exists(), "the next upgrade begins anew"


@pytest.mark.parametrize("why", ["abort-upgrade", "abort-remove", "abort-deconfigure"])
def test_what_was_stopped_for_what_then_failed_runs_again(installed, why):
    installed.set("active", NODE)
    assert installed.call("prerm", "upgrade", "2").returncode == 0
    assert installed.runs() == set()
    # The old script may fail after its stop, then dpkg calls the new one: nothing is forgotten.
    assert installed.call("prerm", "failed-upgrade", "1", "2").returncode == 0
    assert installed.call("postinst", why, "2").returncode == 0
    assert installed.runs() == {GATEWAY, NODE}


def test_a_removal_forgets_what_ran_and_leaves_no_file_of_another_version(installed):
    (installed.tree / "lib-of-a-version-put-back").write_text("")
    assert installed.call("prerm", "remove").returncode == 0
    assert installed.call("postrm", "remove").returncode == 0
    assert not installed.list.exists()
    assert not installed.tree.exists()


@pytest.mark.parametrize(
    "status",
    ["EXECUTING, mode on", "MAINT, mode test", "OBSERVE, mode test, control lent to uid:0: x"],
)
@pytest.mark.parametrize("why", ["upgrade", "remove", "deconfigure", "failed-upgrade"])
def test_nothing_is_stopped_while_power_is_commanded_or_control_is_lent(installed, status, why):
    (installed.root / "status").write_text(status + "\n")
    assert installed.call("prerm", why, "2").returncode == 1
    assert installed.runs() == {GATEWAY}
    assert installed.call("prerm", why, "2", SOPGW_NOW="1").returncode == 0
    assert installed.runs() == set()


def test_a_version_that_refuses_the_site_file_is_undone_and_what_ran_runs(installed):
    installed.set("active", NODE)
    done = installed.upgrade(refuses=True)
    assert done.returncode == 1
    assert "upgrade undone" in done.stderr
    assert (installed.tree / "version").read_text() == "1\n"
    assert installed.runs() == {GATEWAY, NODE}


@pytest.fixture
def refused_by_both(installed):
    """A machine after an upgrade during which neither version took the site file."""
    installed.set("active", NODE)
    for script, words in (("prerm", ("upgrade", "2")), ("preinst", ("upgrade", "1"))):
        assert installed.call(script, *words).returncode == 0
    installed.unpack("2", refuses=True)
    installed.program("opt/sopgw.previous/bin/python", "#!/bin/sh\nexit 3\n")
    return installed, installed.call("postinst", "configure", "1")


def test_an_upgrade_that_cannot_be_undone_says_so_and_starts_what_can_run(refused_by_both):
    machine, done = refused_by_both
    assert done.returncode == 1
    assert "upgrade undone" not in done.stderr
    assert "both versions refuse" in done.stderr
    assert "dpkg --configure -a" in done.stderr
    assert (machine.tree / "version").read_text() == "2\n"
    assert machine.runs() == {NODE}, "the nodes read no site file"


def test_with_the_site_file_mended_the_upgrade_ends_and_the_gateway_runs_again(refused_by_both):
    machine, _ = refused_by_both
    machine.set("active", NODE, there=False)  # by somebody, since
    machine.unpack("2")  # the site file is mended: the program takes it
    done = machine.call("postinst", "configure", "1")
    assert done.returncode == 0, done.stderr
    assert machine.runs() == {GATEWAY}
    assert not machine.list.exists()


def test_what_did_not_run_is_not_started_by_a_way_back(installed):
    installed.set("active", GATEWAY, there=False)
    assert installed.upgrade(refuses=True).returncode == 1
    assert installed.upgrade("3", old="2").returncode == 0
    assert installed.call("rollback", "by hand").returncode == 0
    assert installed.runs() == set()


def test_an_undone_upgrade_is_not_called_done_by_the_next_run_of_apt(installed):
    installed.upgrade(refuses=True)
    calls = (installed.root / "calls").read_text()
    done = installed.call("postinst", "configure", "1")  # dpkg --configure -a
    assert done.returncode == 1
    assert "holds version 1" in done.stderr
    assert (installed.root / "calls").read_text() == calls, "and nothing is stopped or started"


def test_after_a_way_back_the_next_version_lies_alone(installed):
    installed.upgrade("2")
    assert installed.call("rollback", "by hand").returncode == 0
    assert installed.here() == ["bin", "lib-1", "version"]
    assert installed.upgrade("3", old="2").returncode == 0
    assert installed.here() == ["bin", "lib-3", "version"], "nothing of the version put back"
    assert installed.call("rollback").returncode == 0
    assert installed.here() == ["bin", "lib-1", "version"], "what ran before is the way back"


def test_an_upgrade_over_an_undone_one_that_fails_again_has_its_program_back(installed):
    installed.upgrade(refuses=True)
    assert installed.call("prerm", "upgrade", "3").returncode == 0
    assert installed.call("preinst", "upgrade", "2").returncode == 0
    installed.tree.mkdir()  # dpkg could not unpack and took its new files away again
    assert installed.call("postrm", "abort-upgrade", "2", "3").returncode == 0
    assert installed.call("postinst", "abort-upgrade", "3").returncode == 0
    assert installed.here() == ["bin", "lib-1", "version"]
    assert installed.runs() == {GATEWAY}


def test_the_way_back_takes_no_program_from_where_it_is_called(installed, tmp_path):
    installed.upgrade("2")
    log = tmp_path / "python-called"
    text = f'#!/bin/sh\necho "$*" > {log}\n'
    installed.program("opt/sopgw.previous/bin/python", text)
    assert installed.call("rollback", cwd=tmp_path).returncode == 0
    assert log.read_text().startswith("-sP -m gateway config check")
