"""The relay as a program: it runs until asked to end, and says so in one object."""

import json
import signal
import socket
import subprocess
import sys


def hearing(broker, name):
    """Wait for who gives this name; others may still look for somebody at this port."""
    while True:
        peer, _ = broker.accept()
        if name in peer.recv(4096):
            return peer
        peer.close()


def test_it_ends_in_order_when_asked(schema_differences, schema_of):
    with socket.create_server(("127.0.0.1", 0)) as broker:
        port = broker.getsockname()[1]
        run = subprocess.Popen(
            [sys.executable, "-m", "gateway", "relay", "bench4", "--json",
             "--broker", f"mqtt://127.0.0.1:{port}", "--node", "http://127.0.0.1:1"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        with hearing(broker, b"sopl-relay-bench4"):  # it speaks: its handlers of signals stand
            run.send_signal(signal.SIGTERM)
            out, err = run.communicate()
    assert run.returncode == 0, err
    answer = json.loads(out)
    assert answer["ok"] is True
    assert answer["data"]["market"] == "bench4"
    assert schema_differences(schema_of("relay"), answer["data"]) == []
    assert schema_of("relay")["required"], "it is shipped"
