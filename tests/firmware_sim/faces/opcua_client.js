// An OPC UA client of another make: browses, reads a unit, subscribes, calls Methods, prints JSON.
// usage: node opcua_client.js URL CERTIFICATE KEY PKI USER PASSWORD APPLICATION_URI SETPOINTS CRC
"use strict";
let ua;
try {
  ua = require("node-opcua");
} catch {
  // The client alone is enough; it keeps its certificate store in a package of its own.
  ua = { ...require("node-opcua-client"), ...require("node-opcua-certificate-manager") };
}
const [url, certificateFile, privateKeyFile, pki, userName, password, applicationUri, points, crc] =
  process.argv.slice(2);

async function main() {
  const clientCertificateManager = new ua.OPCUACertificateManager({
    rootFolder: pki,
    automaticallyAcceptUnknownCertificate: true,
  });
  await clientCertificateManager.initialize();
  const client = ua.OPCUAClient.create({
    applicationUri,
    certificateFile,
    privateKeyFile,
    clientCertificateManager,
    securityMode: ua.MessageSecurityMode.SignAndEncrypt,
    securityPolicy: ua.SecurityPolicy.Basic256Sha256,
    endpointMustExist: false,
    connectionStrategy: { maxRetry: 1 },
  });
  await client.connect(url);
  const session = await client.createSession({
    type: ua.UserTokenType.UserName,
    userName,
    password,
  });
  const namespaces = await session.readNamespaceArray();
  const ns = namespaces.indexOf("urn:sop-gateway:bench:sop-station");
  const find = async (path) => {
    const found = await session.translateBrowsePath(
      ua.makeBrowsePath("RootFolder", `/0:Objects/${ns}:SOPStation${path}`)
    );
    return found.targets[0].targetId;
  };
  const station = await find("");
  const browsed = await session.browse({
    nodeId: station,
    referenceTypeId: "HierarchicalReferences",
    includeSubtypes: true,
    browseDirection: ua.BrowseDirection.Forward,
    resultMask: 63,
  });
  const power = await find(`/${ns}:Terminals/${ns}:T2/${ns}:P`);
  const unit = await session.read({
    nodeId: await find(`/${ns}:Terminals/${ns}:T2/${ns}:P/0:EngineeringUnits`),
    attributeId: ua.AttributeIds.Value,
  });
  const subscription = await session.createSubscription2({
    requestedPublishingInterval: 100,
    requestedLifetimeCount: 100,
    requestedMaxKeepAliveCount: 10,
    maxNotificationsPerPublish: 100,
    publishingEnabled: true,
    priority: 1,
  });
  const monitored = await subscription.monitor(
    { nodeId: power, attributeId: ua.AttributeIds.Value },
    { samplingInterval: 100, discardOldest: true, queueSize: 10 },
    ua.TimestampsToReturn.Both
  );
  const values = Int32Array.from(points.split(",").map(Number));
  const reached = new Promise((resolve) =>
    monitored.on("changed", (data) => {
      if (Math.abs(data.value.value - values[4]) < 2000) resolve(data.value.value);
    })
  );
  const call = async (name, inputArguments) => {
    const methodId = await find(`/${ns}:${name}`);
    const answer = await session.call({ objectId: station, methodId, inputArguments });
    return answer.outputArguments.map((a) => a.value);
  };
  const { DataType, VariantArrayType } = ua;
  const selected = await call("Select", [
    { dataType: DataType.UInt32, value: 4242 },
    { dataType: DataType.Int32, arrayType: VariantArrayType.Array, value: values },
    { dataType: DataType.UInt16, value: Number(crc) },
    { dataType: DataType.UInt16, value: 900 },
    { dataType: DataType.UInt16, value: 0x0a0a },
  ]);
  const operated = await call("Operate", [
    { dataType: DataType.UInt32, value: selected[0] },
    { dataType: DataType.UInt16, value: 900 },
  ]);
  const seen = await reached;
  const stopped = await call("Stop", [
    { dataType: DataType.UInt16, value: 0 },
    { dataType: DataType.UInt16, value: 0x0a0a },
  ]);
  await subscription.terminate();
  await session.close();
  await client.disconnect();
  const names = browsed.references.map((r) => r.browseName.name);
  const label = unit.value.value.displayName.text;
  console.log(JSON.stringify({ names, label, selected, operated, seen, stopped }));
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  }
);
