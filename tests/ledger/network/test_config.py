import ipaddress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ledger.contracts.document import DocumentRefused
from ledger.network.config import config_from, load
from ledger.network.mutual import PATH

ROUNDS = Path(__file__).resolve().parents[3] / "configs/rounds"
GOOD = {
    "market": "m",
    "node": "n1",
    "key": "n1.key",
    "ledger": {"dir": "ledger", "origin": "o", "key": "l.key"},
    "operator": {"id": "op", "key": "ab" * 32},
    "nodes": {"n1": "cd" * 32},
}


def test_the_shipped_files_are_read():
    lone = load(ROUNDS / "node.yaml")
    assert (lone.etcd, lone.listen_port, lone.faulty_count_max) == (None, 8470, 0)
    assert lone.delivery.domains["T4"] == "region-d"
    four = load(ROUNDS / "node-of-four.yaml")
    assert len(four.node_keys) == 4
    assert four.faulty_count_max == 1
    assert four.etcd.endpoints[0] == "https://10.0.0.1:2379"
    assert four.key_file == ROUNDS / "n1.key"
    assert four.mutual.peers["n3"].log_key.name == "n3.example/market"


def test_the_doors_of_the_shipped_committee_are_where_its_nodes_ask():
    """Set up like that on four machines, each reaches the others' witnesses."""
    four = load(ROUNDS / "node-of-four.yaml")
    assert not ipaddress.ip_address(four.host).is_loopback
    assert set(four.mutual.peers) | {four.node} == set(four.node_keys)
    others = [urlsplit(peer.url) for peer in four.mutual.peers.values()]
    assert four.host not in [url.hostname for url in others]
    assert {(url.scheme, url.port, url.path) for url in others} == {
        ("https", four.listen_port, PATH)
    }
    assert four.mutual.tls == four.tls
    assert four.tls.certificate == ROUNDS / "n1.pem"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"node": "n2"}, "$.node"),
        ({"nodes": {"n1": "cd"}}, "$.nodes.n1"),
        ({"nodes": {"n1": "cd" * 32, "n2": "ef" * 32}}, "$.ordering"),
        ({"ordering": {"etcd": ["http://x"], "ca": "a", "cert": "b", "key": "c"}}, "$.ordering.etcd[0]"),
        ({"nodes": {"n1": "cd" * 32, "n2": "cd" * 32}}, "$.nodes.n2"),
        ({"nodes": {"n1": "cd" * 32, "../n2": "ef" * 32}}, "$.nodes.../n2"),
        ({"nodes": {f"n{i}": f"{i:064x}" for i in range(33)}}, "$.nodes"),
        ({"ordering": {"etcd": []}}, "$.ordering"),
        ({"listen": "8470"}, "$.listen"),
        ({"listen": "host:99999"}, "$.listen"),
        ({"faulty": 1}, "$.faulty"),
        ({"operator": {"id": "op"}}, "$.operator"),
        ({"delivery": {"site": "s"}}, "$.delivery"),
        ({"ledger": 7}, "$.ledger"),
        ({"market": "two words"}, "$.market"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_path(change, where):
    with pytest.raises(DocumentRefused) as refused:
        config_from({**GOOD, **change}, Path())
    assert where in [mistake.path for mistake in refused.value.mistakes]


@pytest.mark.parametrize("value", [None, [], "text"])
def test_anything_but_a_mapping_is_refused(value):
    with pytest.raises(DocumentRefused):
        config_from(value, Path())


def test_a_file_that_is_not_there_or_no_yaml_is_refused(tmp_path):
    with pytest.raises(DocumentRefused):
        load(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00: [")
    with pytest.raises(DocumentRefused):
        load(tmp_path / "bad.yaml")


ODD = {
    "1.5: x": "the key 1.5 is not a text",
    "true: x": "the key True is not a text",
    "? [a, b]\n: x": "the key ('a', 'b') is not a text",
    "etcd: {1: x}": "the key 1 is not a text",
    "a: &n x\nb: &n y": "duplicate anchor 'n'",
    "a: &n [*n]": "recursion",
}


@pytest.mark.parametrize("text", ODD)
def test_what_only_yaml_can_say_is_a_mistake_of_the_file(tmp_path, text, recwarn):
    path = tmp_path / "node.yaml"
    path.write_text((ROUNDS / "node.yaml").read_text() + "\n" + text + "\n")
    with pytest.raises(DocumentRefused) as refused:
        load(path)
    assert ODD[text] in str(refused.value)
    assert not recwarn.list
