"""``sopgw profile``: any file, not only the shipped ones."""

import asyncio
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted((ROOT / "configs" / "profiles").glob("*.yaml"))
ACME = ROOT / "tests" / "gateway" / "config" / "acme.yaml"
BROKEN = ROOT / "tests" / "gateway" / "config" / "broken" / "profile"


def test_ls_finds_the_shipped_ones(sopgw):
    rows = sopgw("profile", "ls", "--json").json["data"]["profiles"]
    assert {p.stem for p in SHIPPED} <= {r["profile"] for r in rows}
    assert [r["profile"] for r in rows if not r["ok"]] == []
    assert "schneider-iem3255" in sopgw("profile", "ls", "iem3").out
    assert "sop-station-v1" not in sopgw("profile", "ls", "iem3").out


def test_ls_takes_more_folders(sopgw):
    out = sopgw("profile", "ls", "--profiles", ACME.parent).out
    assert "acme" in out


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_profile_checks_and_tests(sopgw, path):
    assert sopgw("profile", "check", path).exit_code == 0
    answer = sopgw("profile", "test", path, "--json").json
    assert answer["ok"], answer["errors"]
    tested = answer["data"]["files"][0]
    assert tested["vectors"] or tested["round_trips"] == []


def test_check_of_broken_files(sopgw):
    answer = sopgw("profile", "check", BROKEN / "unit-unknown.yaml", ACME)
    assert answer.exit_code == 3
    assert "error[P012]: unknown unit “degC” for point “temp.sink”" in answer.out
    assert f"{ACME}: no errors." in answer.out
    as_json = sopgw("profile", "check", BROKEN / "unit-unknown.yaml", "--json").json
    assert as_json["errors"][0]["code"] == "P012"


def test_a_warning_does_not_forbid_loading(sopgw):
    answer = sopgw("profile", "check", BROKEN / "readback-missing.yaml", "--json").json
    assert answer["ok"]
    assert answer["data"]["files"][0]["warnings"][0]["code"] == "P031"


def test_test_names_the_vector_that_does_not_hold(sopgw):
    answer = sopgw("profile", "test", BROKEN / "vector-in-swapped-words.yaml")
    assert answer.exit_code == 1
    assert "vector of “t1.p”: [0xB548, 0xFFFD] gives -1253507075 W" in answer.out
    as_json = sopgw("profile", "test", BROKEN / "vector-in-swapped-words.yaml", "--json").json
    assert [v["ok"] for v in as_json["data"]["files"][0]["vectors"]].count(False) == 1


def test_test_of_a_broken_file_loads_nothing(sopgw):
    answer = sopgw("profile", "test", ACME, BROKEN / "unit-unknown.yaml", "--json")
    assert answer.json["exit_code"] == 3


def test_show_and_doc(sopgw):
    row = next(
        r
        for r in sopgw("profile", "show", ACME, "--json").json["data"]["points"]
        if r["name"] == "t2.p"
    )
    assert (row["place"], row["type"], row["unit"]) == ("holding/80", "int32", "W")
    page = sopgw("profile", "doc", ACME).out
    assert page.startswith("# ACME Power SOP-250 (`acme`)")
    assert "| `state.q1` | holding/12 bit 3 | 40013 |" in page
    assert "each of 4 terminals" in sopgw("profile", "doc", "sop-station-v1").out.lower()


def test_show_of_an_unknown_name_says_which_was_meant(sopgw):
    answer = sopgw("profile", "show", "schneider-iem3256", "--json").json
    assert answer["exit_code"] == 3
    assert answer["errors"][0]["help"] == "did you mean `schneider-iem3255`?"


CSV = """Parameter;Register;Doc;Data Type;Unit;Scale;Access
Voltage L1;holding/100;101;u16;V;0.1;R
Active power;holding/0x66;103;S32;W;1;R
Set power;holding/200;201;int16;kW;0.1;RW
Import;holding/300;301;u32;kWh;0.01;R
"""


def test_new_makes_a_profile_that_checks(sopgw, tmp_path):
    (tmp_path / "r.csv").write_text(CSV)
    target = tmp_path / "maker-1.yaml"
    answer = sopgw(
        "profile", "new", "maker-1", "--from", tmp_path / "r.csv", "-o", target, "--json"
    ).json
    assert answer["ok"]
    assert answer["data"]["check"]["errors"] == []
    assert sopgw("profile", "check", target).exit_code == 0
    assert sopgw("profile", "test", target).exit_code == 0
    shown = {
        r["name"]: r for r in sopgw("profile", "show", target, "--json").json["data"]["points"]
    }
    assert shown["voltage_l1"]["place"] == "holding/100"
    assert shown["active_power"]["place"] == "holding/102"
    assert shown["set_power"]["access"] == "rw"


def test_new_leaves_an_existing_file_alone(sopgw, tmp_path):
    (tmp_path / "r.csv").write_text(CSV)
    target = tmp_path / "m.yaml"
    target.write_text("mine")
    answer = sopgw("profile", "new", "m", "--from", tmp_path / "r.csv", "-o", target, "--json").json
    assert answer["exit_code"] == 5
    assert target.read_text() == "mine"


@pytest.mark.parametrize(
    ("table", "code", "line"),
    [
        ("name,unit\na,V\n", "P011", 1),
        ("name,register,unit\na,holding/1,kw\n", "P012", 2),
        ("name,register,type\na,holding/1,u99\n", "P014", 2),
        ("name,register\na,somewhere\n", "P016", 2),
    ],
)
def test_new_tells_mistakes_of_the_table_by_line(sopgw, tmp_path, table, code, line):
    (tmp_path / "r.csv").write_text(table)
    answer = sopgw(
        "profile", "new", "m", "--from", tmp_path / "r.csv", "-o", tmp_path / "m.yaml", "--json"
    ).json
    assert answer["exit_code"] == 3
    assert answer["errors"][0]["code"] == code
    assert answer["errors"][0]["where"].endswith(f"r.csv:{line}:1")
    assert not (tmp_path / "m.yaml").exists()


@pytest.fixture
def meter():
    """A Modbus TCP server that shows 230 V and 50 Hz where the iEM3255 does, on loopback."""
    words = {3027: 0x4366, 3028: 0x3333, 3029: 0x4366, 3030: 0x3333, 3031: 0x4366, 3032: 0x3333}
    words |= {3109: 0x4248, 3110: 0x0000}
    ready, box = threading.Event(), {}

    async def serve(reader, writer):
        try:
            while True:
                head = await reader.readexactly(12)
                first, count = int.from_bytes(head[8:10]), int.from_bytes(head[10:12])
                if head[7] == 3 and all(first + i in words for i in range(count)):
                    body = b"".join(words[first + i].to_bytes(2) for i in range(count))
                    pdu = bytes([3, len(body)]) + body
                else:
                    pdu = bytes([head[7] | 0x80, 2])
                writer.write(head[:4] + (len(pdu) + 1).to_bytes(2) + head[6:7] + pdu)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()  # also where the loop ends before the client's end is seen

    async def run():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        box["port"] = server.sockets[0].getsockname()[1]
        box["loop"], box["stop"] = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await box["stop"].wait()
        server.close()
        await server.wait_closed()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    ready.wait()
    yield box["port"]
    box["loop"].call_soon_threadsafe(box["stop"].set)
    thread.join()


def test_match_asks_a_device_which_profile_fits(sopgw, meter):
    answer = sopgw("profile", "match", f"127.0.0.1:{meter}", "--top", 50, "--json").json
    assert answer["ok"]
    best = answer["data"]["matches"][0]
    assert (best["profile"], best["fits"], best["fitting_count"]) == ("schneider-iem3255", True, 2)
    assert best["checks"][0]["values"] == ["230.2 V", "230.2 V", "230.2 V"]
    others = [m for m in answer["data"]["matches"] if m["profile"] == "sop-station-v1"]
    assert [m["fits"] for m in others] == [False]


def test_match_without_anybody_there(sopgw):
    assert sopgw("profile", "match", "127.0.0.1:1", "--json").json["exit_code"] == 4
