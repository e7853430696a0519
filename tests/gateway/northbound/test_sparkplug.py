"""The order of a Sparkplug node's messages."""

from dataclasses import replace

from gateway.northbound import sparkplug_payload as payload
from gateway.northbound.sparkplug import REBIRTH, SparkplugNode
from gateway.northbound.sparkplug_payload import BOOLEAN, Metric
from gateway.northbound.values import values_of


def fields(body):
    return list(payload._fields(body))


def seq_of(message):
    return {f: c for f, c in fields(message.payload) if f == 3}.get(3)


def metrics_of(message):
    return [dict(fields(c)) for f, c in fields(message.payload) if f == 2]


def order(name=REBIRTH, content=True):
    return payload.write(
        utc_ms=1, metrics=[Metric(datatype_code=BOOLEAN, content=content, name=name)]
    )


def test_a_birth_names_everything_and_data_only_what_changed(view):
    node = SparkplugNode(group="elm", node="sopgw", device="SOP-1")
    death = node.death(utc_ms=1)
    assert (death.topic, death.qos_level) == ("spBv1.0/elm/NDEATH/sopgw", 1)
    assert seq_of(death) is None
    nbirth, dbirth = node.birth(values_of(view), utc_ms=2)
    assert [nbirth.topic, dbirth.topic] == [
        "spBv1.0/elm/NBIRTH/sopgw",
        "spBv1.0/elm/DBIRTH/sopgw/SOP-1",
    ]
    assert [seq_of(nbirth), seq_of(dbirth)] == [0, 1]
    assert payload.read(nbirth.payload)["bdSeq"] == payload.read(death.payload)["bdSeq"] == 0
    assert {m[1].decode() for m in metrics_of(dbirth)} == {v.name for v in values_of(view)}
    assert node.data(values_of(view), utc_ms=3) == []
    changed = values_of(replace(view, mode="off"))
    (ddata,) = node.data(changed, utc_ms=4)
    (only,) = metrics_of(ddata)
    assert 1 not in only  # by alias
    assert only[15] == b"off"
    assert seq_of(ddata) == 2


def test_the_sequence_wraps_and_the_birth_number_grows_with_each_connection(view):
    node = SparkplugNode(group="g", node="n", device="d")
    seen = []
    for k in range(300):
        if k % 100 == 0:
            death = node.death(utc_ms=1)
            seen.append(payload.read(death.payload)["bdSeq"])
            node.birth(values_of(view), utc_ms=2)
        changed = replace(view, loss_w=k)
        (message,) = node.data(values_of(changed), utc_ms=3)
        assert seq_of(message) == (k % 100 + 2) % 256
    assert seen == [0, 1, 2]
    node.birth(values_of(view), utc_ms=2)
    last = [node.data(values_of(replace(view, loss_w=k)), utc_ms=3)[0] for k in range(256)]
    assert [seq_of(m) for m in last][-3:] == [255, 0, 1]


def test_other_terminals_are_born_anew(view):
    node = SparkplugNode(group="g", node="n", device="d")
    node.death(utc_ms=1)
    node.birth(values_of(view), utc_ms=2)
    fewer = replace(view, terminals=view.terminals[:2])
    told = node.data(values_of(fewer), utc_ms=3)
    assert [m.topic.split("/")[2] for m in told] == ["NBIRTH", "DBIRTH"]


def test_only_a_fresh_wish_for_a_rebirth_is_granted():
    node = SparkplugNode(group="g", node="n", device="d")
    assert node.rebirth_wanted(order(), retained=False)
    assert not node.rebirth_wanted(order(), retained=True)
    assert not node.rebirth_wanted(order(content=False), retained=False)
    assert not node.rebirth_wanted(order(name="Terminals/T1/SetActivePower"), retained=False)
    assert not node.rebirth_wanted(b"\xff\xff", retained=False)
