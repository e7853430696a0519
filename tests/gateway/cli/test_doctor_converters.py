"""``sopgw doctor`` and single points on converters that have controllers of their own."""

import pytest
from fakes.separate_site import Bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    found = Bench(tmp_path_factory.mktemp("bench"))
    yield found
    found.close()


def converters(sopgw, site):
    answer = sopgw("doctor", "converters", "-c", site, "--json")
    return {c["id"]: c for c in answer.json["data"]["checks"]}


def statuses(found, name):
    return {i.rpartition(".")[2]: c["status"] for i, c in found.items() if f".{name}." in i}


@pytest.fixture
def edited(bench, tmp_path):
    def edit(old, new, *, count=-1):
        text = bench.site.read_text()
        assert old in text
        path = tmp_path / "site.yaml"
        path.write_text(text.replace(old, new, count))
        return path

    return edit


def test_each_converter_is_asked_who_it_is_and_whether_it_may_be_driven(sopgw, bench):
    found = converters(sopgw, bench.site)
    for name in ("c1", "c2", "c3", "c4"):
        assert statuses(found, name) == dict.fromkeys(
            ("identity", "rating", "remote", "reversion", "scale"), "ok"
        )
    assert "SunSpec 1,701,702,703,704,714,715" in found["converters.c2.identity"]["text"]
    assert found["converters.c3.rating"]["text"] == "250 kVA, T3 has 250 kVA"
    assert "p_set in steps of 1 W" in found["converters.c1.scale"]["text"]
    assert "not armed now" in found["converters.c1.reversion"]["text"]


def test_a_converter_under_local_control_is_a_failure(sopgw, bench):
    bench.say(inject="local")
    found = converters(sopgw, bench.site)
    bench.say(inject="clear")
    assert statuses(found, "c1")["remote"] == "fail"
    assert "panel" in found["converters.c1.remote"]["fix"]
    assert statuses(converters(sopgw, bench.site), "c1")["remote"] == "ok"


@pytest.mark.parametrize(
    ("rating", "status"), [("260 kVA", "fail"), ("240 kVA", "warn"), ("251 kVA", "ok")]
)
def test_a_rating_that_is_not_the_converters_is_told(sopgw, edited, rating, status):
    site = edited("s: 250 kVA", f"s: {rating}", count=2)
    found = converters(sopgw, site)
    assert statuses(found, "c2")["rating"] == status
    assert statuses(found, "c4")["rating"] == "ok"


def test_another_device_at_the_address_of_a_converter_is_told(sopgw, edited):
    site = edited("unit: 3}", "unit: 100}")
    found = converters(sopgw, site)
    assert found["converters.c3.identity"]["status"] == "fail"
    assert "no SunSpec models, the profile is for 1,701" in found["converters.c3.identity"]["text"]
    assert statuses(found, "c4")["identity"] == "ok"


def test_a_mute_converter_is_one_failure_and_the_others_are_looked_at(sopgw, edited, bench):
    site = edited(f'{bench.ports["station"]}", unit: 2}}', '1", unit: 2}')
    found = converters(sopgw, site)
    assert found["converters.c2"]["status"] == "fail"
    assert statuses(found, "c2") == {}
    assert statuses(found, "c1")["identity"] == "ok"


def test_a_set_value_that_would_never_end_is_a_failure_until_its_timer_is_armed(sopgw, bench):
    def write(*assignment):
        answer = sopgw("point", "set", "c2", *assignment, "--yes", "-c", bench.site, "--json")
        assert answer.exit_code == 0, answer.out

    def reversion():
        return converters(sopgw, bench.site)["converters.c2.reversion"]

    write("p_set=100W")
    write("p_set.enable=enabled")
    seen = sopgw("point", "get", "c2", "p_set", "p_set.enable", "-c", bench.site, "--json").json
    assert [p["text"] for p in seen["data"]["points"]] == ["100 W", "enabled"]
    assert reversion()["status"] == "fail"
    assert "holds 100 W and would go on without anybody" in reversion()["text"]
    write("p_set.reversion_time=60s")
    write("p_set.reversion_enable=enabled")
    assert reversion()["status"] == "warn"
    assert "0 W after 60 s" in reversion()["text"]
    assert "the site says 5 s" in reversion()["text"]
    write("p_set.reversion_time=5s")
    assert reversion()["status"] == "ok"
