"""Energy since a start, of meters that had counted long before it."""

from gateway.core.energy import Counters, since


def reading(at_s, net_wh, p_w=0):
    return Counters(utc_us=at_s * 1_000_000, import_wh=0, export_wh=net_wh, p_w=p_w)


def test_what_was_counted_before_the_start_does_not_count():
    readings = [reading(90, 400), reading(110, 600), reading(200, 800)]
    assert since(readings, 100_000, 200_000_000) == 300_000
