// An OPC UA server of others (node-opcua): two variables, one of them analog, and a method.
// usage: node node_opcua_server.js PKI_FOLDER; prints its URL; ends when stdin closes.
"use strict";
const { OPCUAServer } = require("node-opcua-server");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");
const { DataType, Variant } = require("node-opcua-variant");
const { StatusCodes } = require("node-opcua-status-code");
const { MessageSecurityMode, SecurityPolicy } = require("node-opcua-secure-channel");
const { standardUnits } = require("node-opcua-data-access");

async function main(folder) {
  const serverCertificateManager = new OPCUACertificateManager({
    rootFolder: folder,
    automaticallyAcceptUnknownCertificate: true,
  });
  await serverCertificateManager.initialize();
  const server = new OPCUAServer({
    host: "127.0.0.1",
    port: 0,
    resourcePath: "/other",
    serverCertificateManager,
    securityModes: [MessageSecurityMode.SignAndEncrypt],
    securityPolicies: [SecurityPolicy.Basic256Sha256],
    allowAnonymous: false,
    userManager: { isValidUser: (name, password) => name === "operator" && password === "other" },
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  const own = space.registerNamespace("urn:other:plant");
  const plant = own.addObject({
    organizedBy: space.rootFolder.objects,
    nodeId: "s=Plant",
    browseName: "Plant",
  });
  let setting = 7;
  own.addVariable({
    componentOf: plant,
    nodeId: "s=Setting",
    browseName: "Setting",
    dataType: "UInt16",
    minimumSamplingInterval: 50,
    value: {
      get: () => new Variant({ dataType: DataType.UInt16, value: setting }),
      set: (variant) => {
        setting = variant.value;
        return StatusCodes.Good;
      },
    },
  });
  own.addAnalogDataItem({
    componentOf: plant,
    nodeId: "s=P",
    browseName: "P",
    dataType: "Double",
    engineeringUnitsRange: { low: -1000, high: 1000 },
    engineeringUnits: standardUnits.watt,
    value: { dataType: DataType.Double, value: -12.5 },
  });
  const method = own.addMethod(plant, {
    nodeId: "s=Add",
    browseName: "Add",
    inputArguments: [
      { name: "A", dataType: DataType.UInt16 },
      { name: "B", dataType: DataType.UInt16 },
    ],
    outputArguments: [{ name: "Sum", dataType: DataType.UInt32 }],
  });
  method.bindMethod((inputs, _context, done) =>
    done(null, {
      statusCode: StatusCodes.Good,
      outputArguments: [{ dataType: DataType.UInt32, value: inputs[0].value + inputs[1].value }],
    })
  );
  await server.start();
  const { endpointUrl } = server.endpoints[0].endpointDescriptions()[0];
  console.log(`opc.tcp://127.0.0.1:${new URL(endpointUrl.replace("opc.tcp", "http")).port}/other`);
  process.stdin.resume();
  process.stdin.on("end", () => server.shutdown(0).then(() => process.exit(0)));
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1);
});
