"""``sopledger node run`` that can be told to have a wrong clock, to lie, or to be lied to.

    python tests/fault/network_odd_node.py CONTROL.json -c node.yaml

The control file is read again before everything it decides: ``{"skew_ms": 0, "lie": false,
"equivocate": false, "rubbish": ""}``. A liar publishes countersignatures of another state than it
reached; with ``equivocate`` the ordering service shows this node another block than the others get.
With ``rubbish`` its countersignatures are about no hash and its blocks hold ``nothing``, no ``bytes``
of a block, or what must be refused; the messages that were due it drops.
"""

import json
import sys
from pathlib import Path

import ledger.cli.node
import ledger.network.service
from ledger.cli import sopledger
from ledger.log.canonical import decode, encode
from ledger.network.etcd import EtcdOrdering
from ledger.network.message import sign_vote

CONTROL = Path(sys.argv[1])
HONEST = {"skew_ms": 0, "lie": False, "equivocate": False, "rubbish": ""}


def told():
    try:
        return {**HONEST, **json.loads(CONTROL.read_text())}
    except (OSError, ValueError):
        return HONEST  # just being written


real_utc_ms = ledger.cli.node.utc_ms
ledger.cli.node.utc_ms = lambda: real_utc_ms() + told()["skew_ms"]


class OddOrdering(EtcdOrdering):
    """What this node puts into etcd and what it is shown of it."""

    signer = None

    async def vote(self, height, node, vote):
        if told()["lie"]:
            true = json.loads(vote)
            other = (true["block"], true["transactions"], "00" * 32)
            market = self._prefix.split("/")[2]
            vote = sign_vote(market, node, height, other, OddOrdering.signer).encode()
        if told()["rubbish"]:
            market = self._prefix.split("/")[2]
            vote = sign_vote(market, node, height, ("x" * 21_000,) * 3, OddOrdering.signer).encode()
        await super().vote(height, node, vote)

    async def propose(self, height, block, taken):
        match told()["rubbish"]:
            case "bytes":
                block = b"\xff" * 70_000
            case "nothing":
                block = encode({**decode(block), "messages": [{}] * 19_000})
            case "refused":
                again = decode(block)["messages"][:1] * 150
                block = encode({**decode(block), "messages": again})
        return await super().propose(height, block, taken)

    async def block(self, height):
        raw = await super().block(height)
        if raw is None or not told()["equivocate"]:
            return raw
        block = decode(raw)
        return encode({**block, "utc_ms": block["utc_ms"] - 1})


real_load_key = ledger.network.service.load_key


def load_key(path, name):
    """Remember the countersigning key, which the node loads first."""
    key = real_load_key(path, name)
    OddOrdering.signer = OddOrdering.signer or key
    return key


ledger.network.service.load_key = load_key
ledger.network.service.EtcdOrdering = OddOrdering

if __name__ == "__main__":
    sopledger(["node", "run", *sys.argv[2:]])
