"""A running site as it is watched: by a real Prometheus with boards and rules, and in Chromium."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import aiohttp
import pytest
from fakes import chromium, prometheus
from fakes.relay import Relay
from fakes.rig import Rig, executed
from ruamel.yaml import YAML

pytestmark = pytest.mark.timeout(300)  # they wait more than they work: beside others

FOLDER = Path(__file__).parents[2] / "configs" / "grafana"
BOARDS = sorted(FOLDER.glob("*.json"))
RULES = (FOLDER / "rules.yaml").read_text()
NAME = re.compile(r"\bsopgw[_a-z0-9]+(?::[_a-z0-9]+)*")
PAGE = re.compile(r"page open host=127\.0\.0\.1 port=(\d+)")
# What an idle site on the bench may have nothing to tell of, and why.
EMPTY = {
    "sopgw_alarm_active": "no alarm is active",
    "sopgw_clock_error_seconds": "simulated time has no kernel that vouches for it",
    "sopgw_ledger_check_ok": "the first full check comes ten minutes after a start",
}


def program(name):
    found = shutil.which(name)
    if found is None:
        if os.environ.get("SOPGW_REQUIRE_SERVERS") == "1":
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return found


async def with_page(arguments, log):
    return await executed([*arguments, "--web-port", "0"], log)


@contextlib.asynccontextmanager
async def ready_site(folder, **kwargs):
    """A gateway in state READY in front of simulated devices."""
    rig = Rig(folder, launch=with_page, **kwargs)
    async with rig.up():
        await rig.until(lambda s: s["state"] == "READY")
        yield rig


def page_port(rig):
    return int(PAGE.search(rig.log.read_text())[1])


def filled_in(expression):
    """An expression of a board with its variables chosen, all terminals at once."""
    return expression.replace("$terminal", "T1|T2|T3|T4").replace("$sop", "SOP-1")


def questions():
    """Every expression of both boards with its legend, its variables' questions included."""
    for path in BOARDS:
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield filled_in(target["expr"]), target.get("legendFormat", "")
        for variable in board["templating"]["list"]:
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            yield filled_in(asked[1]), f"{{{{{asked[2]}}}}}"


def rules():
    return [r for g in YAML(typ="safe").load(RULES)["groups"] for r in g["rules"]]


async def test_prometheus_reads_a_site_and_every_board_and_rule_has_its_data(tmp_path):
    found, promtool = program("prometheus"), program("promtool")
    (tmp_path / "watch").mkdir()
    often = RULES.replace("interval: 1m", "interval: 500ms")  # a minute is long for a test
    assert often != RULES
    async with ready_site(tmp_path, factor=1) as rig:
        port = page_port(rig)
        async with prometheus.reading(found, tmp_path / "watch", target=port, rules=often) as watch:
            await watch.until_known('up{job="sopgw"} == 1')
            await boards_have_data(watch)
            await rules_are_sound(watch)
            await all_is_stored_and_nothing_else(watch, port, promtool)


async def boards_have_data(watch):
    for expression, legend in questions():
        if EMPTY.keys() & set(NAME.findall(expression)):
            await watch.ask(expression)  # answered without an error
            continue
        series = await watch.until_known(expression)
        for label in re.findall(r"{{(\w+)}}", legend):
            assert all(label in s["metric"] for s in series), (expression, label)


async def rules_are_sound(watch):
    """Every rule is evaluated without an error, has what it asks for, and is calm at an idle site."""
    for name in {n for r in rules() for n in NAME.findall(r["expr"])} - EMPTY.keys() - {"sopgw"}:
        await watch.until_known(name)
    for rule in rules():
        await watch.ask(rule["expr"])
    names = sorted(r.get("alert", r.get("record")) for r in rules())
    async with asyncio.timeout(60):  # a stall of this machine may have raised an alarm for a while
        while True:
            told = [r for g in (await watch.get("rules"))["groups"] for r in g["rules"]]
            assert sorted(r["name"] for r in told) == names
            if all(r["health"] == "ok" and r.get("state", "inactive") == "inactive" for r in told):
                break
            await asyncio.sleep(0.2)


async def all_is_stored_and_nothing_else(watch, port, promtool):
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
        asyncio.timeout(60),
    ):
        while True:  # what comes and goes is stored half a second later
            async with session.get("/metrics") as response:
                text = await response.text()
            lines = [line for line in text.splitlines() if not line.startswith("#")]
            given = {re.split("[{ ]", line)[0] for line in lines}
            kept = {s["metric"]["__name__"] for s in await watch.ask('{__name__=~"sopgw_.+"}')}
            if kept == given and not kept & EMPTY.keys():
                break
            await asyncio.sleep(0.2)
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


FIGURES = """[...document.querySelectorAll('#part-values tbody tr')].map(
    row => [...row.cells].map(cell => cell.textContent))"""


async def shows_the_truth(browser, rig, *, busy):
    """Wait until the page's figures are the simulator's: power, meter, voltage of the DC link."""
    limit_s = asyncio.get_running_loop().time() + 60
    while True:
        rows, truth = await browser.run(FIGURES), await rig.truth()
        dc = await browser.run("document.getElementById('part-one-line').textContent")
        shown = [(number(row[4]), number(row[5])) for row in rows]
        real_kw = [t["p_w"] / 1000 for t in truth["terminals"]]
        volts = re.search(r"([\d.]+) V", dc[dc.find("DC ") :])
        if (
            len(shown) == len(real_kw) == 4
            and (not busy or min(real_kw) < -50 < 50 < max(real_kw))
            and all(near(k, kw) for row, kw in zip(shown, real_kw, strict=True) for k in row)
            and volts is not None
            and abs(float(volts[1]) - truth["v_dc_v"]) < 5
        ):
            return
        assert asyncio.get_running_loop().time() < limit_s, (rows, real_kw, dc)
        await asyncio.sleep(0.1)


def number(cell):
    """The kilowatts of a cell, None where it holds a dash."""
    found = re.fullmatch(r"([−+]?[\d.]+) kW", cell)
    return float(found[1].replace("−", "-")) if found else None


def near(shown_kw, real_kw):
    """Within what the simulated power wanders between a poll and the look at the truth."""
    return shown_kw is not None and abs(shown_kw - real_kw) <= max(0.5, 0.02 * abs(real_kw))


async def test_the_page_shows_what_the_simulator_does_also_after_a_restart(tmp_path):
    async with (
        chromium.opened(tmp_path / "chromium") as browser,
        ready_site(tmp_path, factor=10, to_minute_ms=5_000) as rig,
        (relay := Relay()).listening() as front,
    ):
        relay.port, root = page_port(rig), f"http://127.0.0.1:{front}"
        await browser.screen(1366, 820)
        await browser.go(f"{root}/en/")
        await browser.run("window.mark = 'kept'")
        await shows_the_truth(browser, rig, busy=False)
        start_ms = rig.next_minute_ms()
        trade = rig.trade("trd-1", "T2", "T3", 60_000, start_ms, count=90)
        assert (await rig.send(rig.signed(trade))).accepted
        await shows_the_truth(browser, rig, busy=True)
        assert await browser.violations() == []
        assert [u for u in browser.requests if not u.startswith(root + "/")] == []
        assert browser.complaints == []
        await browser.picture("1366-site-at-work")

        relay.port = None
        await rig.stop()
        await browser.until("!document.getElementById('lost').hidden")
        await rig.start()
        relay.port = page_port(rig)
        await browser.until("document.getElementById('lost').hidden")
        await shows_the_truth(browser, rig, busy=True)
        assert await browser.run("window.mark") == "kept", "the page went on by itself"
        for name, language, width, media in LOOKS:
            await browser.screen(width, 844, **media)
            await browser.go(f"{root}/{language}/")
            wide = await browser.run("[document.documentElement.scrollWidth, innerWidth]")
            assert wide[0] <= wide[1], (name, wide)
            assert browser.complaints == [], name
            await browser.picture(name)


LOOKS = (
    ("390-site-at-work-en", "en", 390, {}),
    ("390-site-at-work-zh", "zh", 390, {}),
    ("1366-site-at-work-dark-zh", "zh", 1366, {"prefers_color_scheme": "dark"}),
)
