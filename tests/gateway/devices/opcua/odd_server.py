"""An OPC UA server of ours that misbehaves: python odd_server.py PORT FOLDER NAMESPACE...

Signed and encrypted, with the certificate of the folder, and with nodes ``s=Value`` in each
namespace, ``s=Power`` with a wrong unit, ``s=Bomb``, whose value cannot be held in the memory that
a careful client allows itself, and Methods: ``s=Slow``, whose outcome it says it does not know,
``s=Stuck``, which never ends, and ``s=Gone``, which is carried out and cuts off its own answer with
an error message of the transport.
Prints its URL; a line on stdin is an order: ``forget`` drops every subscription without a word.
"""

import asyncio
import gc
import sys
from pathlib import Path

from asyncua import Server, ua, uamethod
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.ua import ua_binary

BOMB_COUNT = 15 << 20
plain_variant = ua_binary.variant_to_binary


class Bomb:
    """A value of many booleans that exists only on the wire."""


def variant_to_binary(variant):
    if not isinstance(variant.Value, Bomb):
        return plain_variant(variant)
    return bytes([ua.VariantType.Boolean.value | 0x80]) + BOMB_COUNT.to_bytes(4, "little") + bytes(
        BOMB_COUNT
    )  # fmt: skip


ua_binary.variant_to_binary = variant_to_binary


class Users:
    """One user; nobody else, and not without a name."""

    def get_user(self, iserver, username=None, password=None, certificate=None):
        known = (username, password) == ("operator", "operator-bench")
        return User(role=UserRole.Admin, name=username) if known else None


def enormous(_node, _attribute):
    return ua.DataValue(ua.Variant(Bomb(), ua.VariantType.Boolean))


@uamethod
def slow(_parent):
    return ua.StatusCode(ua.StatusCodes.BadTimeout)


@uamethod
async def stuck(_parent):
    await asyncio.Event().wait()


def gone_of(server):
    @uamethod
    def gone(_parent, code):
        message = ua.ErrorMessage(ua.StatusCode(code), "cut off")
        for client in list(server.bserver.clients):
            client.transport.write(ua_binary.uatcp_to_binary(ua.MessageType.Error, message))

    return gone


async def fill(server, namespaces):
    for uri in namespaces:
        index = await server.register_namespace(uri)
        node = await server.nodes.objects.add_variable(
            ua.NodeId("Value", index), f"{index}:Value", float(len(uri))
        )
        await node.set_writable()
        power = await server.nodes.objects.add_variable(
            ua.NodeId("Power", index), f"{index}:Power", 1000.0
        )
        unit = ua.EUInformation(DisplayName=ua.LocalizedText("kW"), UnitId=4937556)
        await power.add_property(ua.NodeId(), "0:EngineeringUnits", unit)
        await server.nodes.objects.add_method(
            ua.NodeId("Slow", index), f"{index}:Slow", slow, [], []
        )
        await server.nodes.objects.add_method(
            ua.NodeId("Stuck", index), f"{index}:Stuck", stuck, [], []
        )
        await server.nodes.objects.add_method(
            ua.NodeId("Gone", index), f"{index}:Gone", gone_of(server), [ua.VariantType.UInt32], []
        )
        bomb = await server.nodes.objects.add_variable(
            ua.NodeId("Bomb", index), f"{index}:Bomb", False
        )
        server.iserver.aspace.set_attribute_value_callback(
            bomb.nodeid, ua.AttributeIds.Value, enormous
        )


async def main(port, folder, *namespaces):
    server = Server(user_manager=Users())
    gc.disable()  # what this makes stays
    await server.init()
    gc.freeze()
    gc.enable()
    await server.set_application_uri("urn:sop-gateway:bench:opcua")
    await server.load_certificate(str(Path(folder) / "opcua-server.der"))
    await server.load_private_key(str(Path(folder) / "opcua-server-key.pem"))
    server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
    server.set_identity_tokens([ua.UserNameIdentityToken])
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/odd")
    await fill(server, namespaces)
    await server.start()
    bound = server.bserver._server.sockets[0].getsockname()[1]
    print(f"opc.tcp://127.0.0.1:{bound}/odd", flush=True)
    service = server.iserver.subscription_service
    while line := await asyncio.to_thread(sys.stdin.readline):
        if line.strip() == "forget":
            for subscription in list(service.subscriptions.values()):
                await subscription.stop()
            service.subscriptions.clear()
            print("forgotten", flush=True)
    await server.stop()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
