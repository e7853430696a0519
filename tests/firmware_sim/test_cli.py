"""The program's surface: help with two examples, exit codes, one JSON object where asked."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from firmware_sim.__main__ import main


def run(*args):
    return CliRunner().invoke(main, list(args))


@pytest.mark.parametrize("command", sorted(main.commands))
def test_help_has_two_examples(command):
    done = run(command, "--help")
    assert done.exit_code == 0
    examples = done.output.split("Examples:")[1].split("Options:")[0]
    assert len([line for line in examples.splitlines() if "sopsim" in line]) == 2


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["device", "lv9", "--port", "0"], 2),
        (["device", "lv4x250"], 2),
        (["device", "lv4x250", "--port", "0", "--bias", "1"], 2),
        (["device", "lv4x250", "--port", "0", "--speed", "fast"], 2),
        (["device", "lv4x250", "--port", "0", "--master", "5"], 2),
        (["device", "lv4x250", "--port", "0", "--meter", "abacus"], 2),
        (["inject", "link_cut", "--control", "/nonexistent/ctl"], 4),
        (["inject", "link_cut", "--control", "/nonexistent/ctl", "--for", "30"], 2),
        (["proxy", "--to", "nowhere"], 2),
        (["proxy", "--to", "127.0.0.1:1", "--lie", "fib"], 2),
        (["nonsense"], 2),
    ],
)
def test_exit_codes(args, code):
    assert run(*args).exit_code == code


def test_failure_as_one_json_object():
    done = run("device", "lv9", "--port", "0", "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["ok"] is False


def test_a_bad_device_file_is_exit_3_with_its_place(tmp_path):
    path = tmp_path / "d.yaml"
    path.write_text("v_dc: 800 V\nterminals: []\n")
    done = run("device", str(path), "--port", "0")
    assert done.exit_code == 3
    assert f"{path}:2:1:" in done.stderr


def test_ls():
    data = json.loads(run("ls", "--json").stdout)["data"]
    assert "lv4x250" in data["devices"]
    assert "sdm630" in data["meters"]
    assert "link_cut" in data["faults"]
    assert "wrong_tid" in data["proxy_faults"]
    assert data["scenarios"]["link-cut"].endswith("link-cut.yaml")
    assert "lv4x250" in run("ls").output


def test_a_shipped_scenario_by_name():
    done = run("run", "full-load")
    assert done.exit_code == 0
    assert "passed" in done.output


def test_inject_by_the_program(start):
    device = start()
    done = run("inject", "local", "--control", str(device.control), "--for", "1h")
    assert done.exit_code == 0
    assert device.truth()["local"]
    assert run("inject", "clear", "--control", str(device.control), "--json").exit_code == 0
    assert not device.truth()["local"]
    assert run("inject", "nonsense", "--control", str(device.control)).exit_code == 2


def test_a_proxy_before_a_device(start):
    device = start()
    command = [sys.executable, "-m", "firmware_sim", "proxy", "--lie", "exception", "--times", "1"]
    command += ["--to", f"127.0.0.1:{device.listening['station']}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        wire = device.wire(json.loads(process.stdout.readline())["listening"]["proxy"])
        assert wire.read(4, 1000, 1) == 6
        assert wire.read(4, 1000, 1) == [5]
    finally:
        process.terminate()
        assert process.wait(5) == 0
        process.stdout.close()


def test_a_fault_of_a_running_proxy_by_the_program(start, tmp_path):
    device = start()
    control = str(tmp_path / "proxy.ctl")
    command = [sys.executable, "-m", "firmware_sim", "proxy", "--control", control]
    command += ["--to", f"127.0.0.1:{device.listening['station']}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        wire = device.wire(json.loads(process.stdout.readline())["listening"]["proxy"])
        order = ("inject", "exception", "--control", control, "--set", "times=2")
        assert run(*order, "--set", "unit=100", "--set", "functions=read").exit_code == 0
        assert wire.write(4, [1]) == 0
        assert [wire.read(4, 1000, 1) for _ in range(3)] == [6, 6, [5]]
        assert run(*order, "--for", "30s").exit_code == 2
        assert run(*order, "--target", "station").exit_code == 2
        assert wire.read(4, 1000, 1) == [5]
    finally:
        process.terminate()
        assert process.wait(5) == 0
        process.stdout.close()


def test_a_device_in_its_feeders(start):
    device = start("--grid", "ieee33-4t", "--speed", "60", kind="mv4x3000")
    wire = device.wire()
    while True:
        volts = [wire.read(4, 1100 + 40 * j + 7, 2) for j in range(4)]
        volts = [(high << 16 | low) / 10 for high, low in volts]
        if max(volts) < 10_000:
            break
    assert 9_000 < min(volts) < max(volts) < 10_000
    assert run("device", "lv4x250", "--port", "0", "--grid", "moon").exit_code == 2
    assert run("device", "lv4x250", "--port", "0", "--tls", "0").exit_code == 2


def test_certificates(tmp_path):
    assert run("certs", str(tmp_path / "pki")).exit_code == 0
    assert (tmp_path / "pki" / "operator.pem").exists()


def test_a_bug_ends_the_program_with_eleven_and_one_line(monkeypatch, capsys):
    from firmware_sim import __main__ as program

    def broken(options):
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(program, "_device", broken)
    with pytest.raises(SystemExit) as ended:
        program.main(["device", "lv4x250", "--port", "0"])
    assert ended.value.code == 11
    told = capsys.readouterr().err
    assert told == "sopsim: bug in the program: ZeroDivisionError: planted\n"
