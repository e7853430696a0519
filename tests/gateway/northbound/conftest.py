"""The made-up site of the page's tests, for the northbound doors."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location(
    "hmi_site", Path(__file__).parent.parent / "hmi" / "conftest.py"
)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)


@pytest.fixture
def view():
    """The site with all its devices: three meters answer, the fourth does not."""
    made = _module.made_view()
    station, silent = made.devices
    meters = tuple(
        replace(station, name=f"m{k}", kind="schneider-iem3255", address=f"127.0.0.1:502{k}")
        for k in (1, 2, 3)
    )
    return replace(made, devices=(station, *meters, silent))
