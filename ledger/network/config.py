"""Node files: which market, which node, whom to trust, where blocks are ordered."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError, YAMLWarning

from ledger.contracts.document import DocumentRefused, Mistake, Node
from ledger.network.mutual import Mutual, mutual_from
from ledger.network.tls import TlsFiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FILE_BYTES_MAX = 1 << 20
KEY_LENGTH = 64
NODES_MAX = 32
REQUIRED = {"market", "node", "key", "ledger", "operator", "nodes"}
OPTIONAL = {"faulty", "ordering", "listen", "tls", "delivery", "witness"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdFiles:
    """Where an etcd cluster is and what proves both sides to each other."""

    endpoints: tuple[str, ...]
    tls: TlsFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySite:
    """Whom the trades of final rounds are addressed to."""

    site: str
    sop: str
    receiver: str
    currency: str
    domains: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """A node file, read and checked; paths are relative to the file."""

    market: str
    node: str
    key_file: Path
    ledger_directory: Path
    ledger_origin: str
    ledger_key_file: Path
    operator: str
    operator_key: str
    node_keys: Mapping[str, str]
    faulty_count_max: int
    etcd: EtcdFiles | None
    """None orders inside the process, which only a single node can."""
    host: str
    listen_port: int
    tls: TlsFiles | None = None
    """The door's certificate, shown to other nodes too; None serves plain HTTP."""
    delivery: DeliverySite | None
    mutual: Mutual | None
    """Whom this node witnesses and by whom it is witnessed."""


def load(path: Path) -> NodeConfig:
    """Read a node file; raise DocumentRefused with every mistake in it."""
    try:
        data = path.read_bytes()[:FILE_BYTES_MAX]
        with warnings.catch_warnings():
            warnings.simplefilter("error", YAMLWarning)  # a name given twice
            value = YAML(typ="safe", pure=True).load(data)
        odd = list(_odd_keys(value, "$"))
    except (OSError, YAMLError, YAMLWarning, ValueError, RecursionError) as error:
        first = next((line for line in str(error).splitlines() if line), type(error).__name__)
        raise DocumentRefused([Mistake(path="$", message=f"{path}: {first}")]) from None
    if odd:
        raise DocumentRefused(odd)
    return config_from(value, path.parent)


def _odd_keys(value: Any, path: str) -> Iterator[Mistake]:
    """Name the keys that are no texts: YAML has others, a node file has not."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                yield Mistake(path=path, message=f"the key {key!r} is not a text")
            yield from _odd_keys(item, f"{path}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _odd_keys(item, f"{path}[{number}]")


def config_from(value: Any, base: Path) -> NodeConfig:
    """Check a node file's content."""
    mistakes: list[Mistake] = []
    top = Node(value, mistakes)
    top.fields(required=REQUIRED, optional=OPTIONAL)
    if not isinstance(value, dict):
        raise DocumentRefused(mistakes)
    keys = _nodes(top.at("nodes"))
    node = top.at("node").name()
    if keys and node not in keys:
        top.at("node").wrong(f"{node!r} is none of the nodes")
    etcd = _etcd(top.at("ordering"), base) if top.has("ordering") else None
    if etcd is None and len(keys) > 1:
        top.at("ordering").wrong("several nodes need an ordering service they share")
    ledger = top.at("ledger")
    ledger.fields(required={"dir", "origin", "key"})
    host, port = _listen(top.at("listen")) if top.has("listen") else ("127.0.0.1", 0)
    tls = _tls(top.at("tls"), base) if top.has("tls") else None
    faulty = (len(keys) - 1) // 3
    if top.has("faulty"):
        faulty = top.at("faulty").integer(low=0, high=100)
    if len(keys) < 2 * faulty + 1:
        top.at("faulty").wrong(f"{len(keys)} nodes can not outvote {faulty}")
    operator = top.at("operator")
    operator.fields(required={"id", "key"})
    config = NodeConfig(
        market=top.at("market").name(),
        node=node,
        key_file=base / top.at("key").text(size_max=4096),
        ledger_directory=base / ledger.at("dir").text(size_max=4096),
        ledger_origin=ledger.at("origin").text(size_max=255),
        ledger_key_file=base / ledger.at("key").text(size_max=4096),
        operator=operator.at("id").name(),
        operator_key=_key(operator.at("key")),
        node_keys=keys,
        faulty_count_max=faulty,
        etcd=etcd,
        host=host,
        listen_port=port,
        tls=tls,
        delivery=_delivery(top.at("delivery")) if top.has("delivery") else None,
        mutual=mutual_from(top.at("witness"), base, tls) if top.has("witness") else None,
    )
    if mistakes:
        raise DocumentRefused(mistakes)
    return config


def _nodes(place: Node) -> dict[str, str]:
    """Who countersigns; every node votes with a key of its own."""
    keys: dict[str, str] = {}
    for name, node in place.members():
        Node(name, place.mistakes, path=node.path).name()
        key = _key(node)
        if key in keys.values():
            node.wrong("is another node's key: one vote would count twice")
        keys[name] = key
    if len(keys) > NODES_MAX:
        place.wrong(f"at most {NODES_MAX} nodes: their votes stand in one entry")
    return keys


def _key(node: Node) -> str:
    text = node.text()
    if len(text) != KEY_LENGTH or any(c not in "0123456789abcdef" for c in text):
        node.wrong("must be 64 lower-case hex digits: a raw Ed25519 public key")
    return text


def _etcd(node: Node, base: Path) -> EtcdFiles | None:
    if node.value == "embedded":
        return None
    node.fields(required={"etcd", "ca", "cert", "key"})
    endpoints = tuple(place.text(size_max=255) for place in node.at("etcd").items(low=1, high=9))
    for place, endpoint in zip(node.at("etcd").items(), endpoints, strict=False):
        if not endpoint.startswith("https://"):
            place.wrong("must be an https address")
    return EtcdFiles(endpoints=endpoints, tls=_files(node, base))


def _tls(node: Node, base: Path) -> TlsFiles:
    node.fields(required={"ca", "cert", "key"})
    return _files(node, base)


def _files(node: Node, base: Path) -> TlsFiles:
    return TlsFiles(
        authority=base / node.at("ca").text(size_max=4096),
        certificate=base / node.at("cert").text(size_max=4096),
        key=base / node.at("key").text(size_max=4096),
    )


def _listen(node: Node) -> tuple[str, int]:
    host, _, port = node.text().rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        node.wrong("must be HOST:PORT")
        return "127.0.0.1", 0
    return host, int(port)


def _delivery(node: Node) -> DeliverySite:
    node.fields(required={"site", "sop", "domains"}, optional={"receiver", "currency"})
    return DeliverySite(
        site=node.at("site").name(),
        sop=node.at("sop").name(),
        receiver=node.at("receiver").name() if node.has("receiver") else "gateway",
        currency=node.at("currency").name() if node.has("currency") else "CNY",
        domains={terminal: place.name() for terminal, place in node.at("domains").members()},
    )
