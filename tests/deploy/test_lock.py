"""The lock: everything by hash, and what an installation needs is found in it for every machine."""

import tomllib
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_every_pin_has_a_hash(scripts):
    pins = scripts["lockfile"].read()
    assert len(pins) > 50
    assert [p.name for p in pins if not p.sha256s] == []
    text = (ROOT / "requirements.lock").read_text()
    assert sum(len(p.sha256s) for p in pins) == text.count("--hash=sha256:")


@pytest.mark.parametrize("python", ["3.11", "3.13"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_what_a_site_needs_is_locked_once_for_its_machine(scripts, python, machine):
    lockfile = scripts["lockfile"]
    pins = lockfile.closure(lockfile.SITE_EXTRAS, lockfile.environment(python, machine))
    names = [p.name for p in pins]
    assert len(set(names)) == len(names)
    direct = {d.split(">")[0].split("<")[0].split("=")[0] for d in PROJECT["dependencies"]}
    assert {canonicalize_name(d) for d in direct} <= set(names)
    assert {"asyncua", "fpdf2", "highspy"} <= set(names)
    assert not {"pytest", "mypy", "pymodbus", "pymerkle", "amqtt", "uv"} & set(names)


def test_what_a_package_asks_for_itself_is_followed(scripts):
    lockfile = scripts["lockfile"]
    values = lockfile.environment("3.11", "x86_64")
    lean = {p.name for p in lockfile.closure((), values)}
    assert {"paho-mqtt", "cffi", "yarl"} <= lean  # asked for by aiomqtt, cryptography, aiohttp
    assert "asyncua" not in lean
