"""Real etcd members on loopback with TLS, for tests, faults and benches."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import os
import shutil
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

READY_S = 120


def installed():
    return shutil.which("etcd") is not None


def own_address():
    """A loopback address nobody else uses: its ports stay free while members are down."""
    return "127." + ".".join(str(1 + byte % 254) for byte in os.urandom(3))


def free_ports(count, host):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((host, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def write_certificates(directory, host):
    """A throw-away authority and one certificate for servers and clients alike."""
    now = dt.datetime.now(dt.UTC)

    def name(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def build(subject, issuer, public, signer, *, authority):
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(issuer))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            hosts = ("127.0.0.1", host)  # the first for proxies in front of the members
            addresses = [x509.IPAddress(ipaddress.ip_address(one)) for one in hosts]
            usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.SubjectAlternativeName(addresses), critical=False)
            builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        return builder.sign(signer, hashes.SHA256())

    root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = build("ca", "ca", root.public_key(), root, authority=True)
    certificate = build("etcd", "ca", leaf.public_key(), root, authority=False)
    (directory / "ca.pem").write_bytes(authority.public_bytes(Encoding.PEM))
    (directory / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (directory / "key.pem").write_bytes(
        leaf.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )


class Cluster:
    """Members that can be killed, stopped and started one by one."""

    def __init__(self, directory, count=3):
        self.directory = Path(directory)
        self.host = own_address()
        write_certificates(self.directory, self.host)
        ports = free_ports(2 * count, self.host)
        self.clients = [f"https://{self.host}:{port}" for port in ports[:count]]
        self.peers = [f"http://{self.host}:{port}" for port in ports[count:]]
        self.processes = [None] * count

    def tls(self):
        context = ssl.create_default_context(cafile=str(self.directory / "ca.pem"))
        context.load_cert_chain(self.directory / "cert.pem", self.directory / "key.pem")
        return context

    def start(self, index):
        names = ",".join(f"m{i}={peer}" for i, peer in enumerate(self.peers))
        d = self.directory
        log = (d / f"m{index}.log").open("ab")
        self.processes[index] = subprocess.Popen(
            [
                "etcd", "--name", f"m{index}", "--data-dir", str(d / f"m{index}"),
                "--listen-client-urls", self.clients[index],
                "--advertise-client-urls", self.clients[index],
                "--listen-peer-urls", self.peers[index],
                "--initial-advertise-peer-urls", self.peers[index],
                "--initial-cluster", names, "--initial-cluster-state", "new",
                "--cert-file", str(d / "cert.pem"), "--key-file", str(d / "key.pem"),
                "--trusted-ca-file", str(d / "ca.pem"), "--client-cert-auth",
                "--heartbeat-interval", "50", "--election-timeout", "500",
            ],
            stdout=log, stderr=log, env={"PATH": os.environ["PATH"]},
        )  # fmt: skip
        log.close()

    def kill(self, index):
        """As a power cut would: no goodbye."""
        self.processes[index].send_signal(signal.SIGKILL)
        self.processes[index].wait()

    def pause(self, index):
        self.processes[index].send_signal(signal.SIGSTOP)

    def resume(self, index):
        self.processes[index].send_signal(signal.SIGCONT)

    async def ready(self):
        connector = aiohttp.TCPConnector(ssl=self.tls())
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.timeout(READY_S):
            for url in self.clients:
                while True:
                    with contextlib.suppress(aiohttp.ClientError, OSError):
                        async with session.get(url + "/health") as response:
                            if (await response.json(content_type=None)).get("health") == "true":
                                break
                    await asyncio.sleep(0.1)

    def stop(self):
        for process in self.processes:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()


@contextlib.asynccontextmanager
async def cluster(directory, count=3):
    found = Cluster(directory, count)
    for index in range(count):
        found.start(index)
    try:
        await found.ready()
        yield found
    finally:
        found.stop()
