"""A provider with the schema of AWS's and nothing behind it, in a mirror from which `terraform init` takes it.

    provider.py install SCHEMA.json MIRROR VERSION    lays it out as hashicorp/aws VERSION
    provider.py serve SCHEMA.json CERTIFICATE.pem     what Terraform starts

It answers what init, validate, plan and test (with mocks) ask. A plan takes what the code says and leaves unknown what
AWS would compute; a data source is given placeholders. It can create nothing, and says so. Whatever only AWS or its real
provider checks stays unchecked.
"""
import base64
import datetime
import json
import os
import pathlib
import platform
import shlex
import stat
import sys
import tempfile
from concurrent import futures

import grpc
import msgpack
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tf.gen import grpc_controller_pb2, grpc_controller_pb2_grpc, grpc_stdio_pb2_grpc, tfplugin_pb2, tfplugin_pb2_grpc

NESTING = {mode: getattr(tfplugin_pb2.Schema.NestedBlock.NestingMode, mode.upper()) for mode in ("single", "list", "set", "map")}
UNKNOWN = msgpack.ExtType(0, b"\0")
# So that plans that use them in ARNs and names are well-formed.
PLACEHOLDERS = {"account_id": "000000000000", "partition": "aws", "dns_suffix": "amazonaws.com", "region": "us-east-1"}


def is_block(field):
    """What AWS may compute is an attribute even where it has fields; the rest is written as blocks."""
    return "fields" in field and not field["computed"]


def wire_type(field):
    """The type of a field, as Terraform writes types in JSON."""
    if "type" in field:
        return field["type"]
    item = ["object", {name: wire_type(inner) for name, inner in field["fields"].items()}]
    return item if field["nesting"] == "single" else [field["nesting"], item]


def block(fields):
    """A block with these fields, for the wire."""
    out = tfplugin_pb2.Schema.Block()
    for name, field in fields.items():
        if not is_block(field):
            flags = {flag: field[flag] for flag in ("computed", "optional", "required")}
            out.attributes.add(name=name, type=json.dumps(wire_type(field)).encode(), **flags)
            continue
        inner = out.block_types.add(type_name=name, nesting=NESTING[field["nesting"]], block=block(field["fields"]))
        if field["nesting"] in ("list", "set"):
            inner.min_items = int(field["required"])
            inner.max_items = 0 if field["many"] else 1
    return out


def schema_of(fields):
    return tfplugin_pb2.Schema(block=block(fields))


def unpack(value):
    return msgpack.unpackb(value.msgpack, strict_map_key=False, ext_hook=msgpack.ExtType)


def pack(value):
    return tfplugin_pb2.DynamicValue(msgpack=msgpack.packb(value))


class Provider(tfplugin_pb2_grpc.ProviderServicer):
    """What Terraform asks a provider."""

    def __init__(self, schema):
        self.schema = schema

    def GetProviderSchema(self, request, context):
        settings = {"computed": False, "optional": True, "required": False}
        answer = tfplugin_pb2.GetProviderSchema.Response(provider=schema_of({"region": {"type": "string", **settings}}))
        answer.server_capabilities.plan_destroy = True
        for name, fields in self.schema["resource"].items():
            answer.resource_schemas[name].CopyFrom(schema_of(fields))
        for name, fields in self.schema["data"].items():
            answer.data_source_schemas[name].CopyFrom(schema_of(fields))
        return answer

    def ValidateProviderConfig(self, request, context):
        return tfplugin_pb2.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request, context):
        return tfplugin_pb2.ValidateResourceConfig.Response()

    def ValidateDataResourceConfig(self, request, context):
        return tfplugin_pb2.ValidateDataResourceConfig.Response()

    def ConfigureProvider(self, request, context):
        return tfplugin_pb2.ConfigureProvider.Response()

    def StopProvider(self, request, context):
        return tfplugin_pb2.StopProvider.Response()

    def UpgradeResourceState(self, request, context):
        state = tfplugin_pb2.DynamicValue(json=request.raw_state.json)
        return tfplugin_pb2.UpgradeResourceState.Response(upgraded_state=state)

    def ReadResource(self, request, context):
        return tfplugin_pb2.ReadResource.Response(new_state=request.current_state)

    def ReadDataSource(self, request, context):
        value = unpack(request.config)
        for name, field in self.schema["data"][request.type_name].items():
            if value[name] is None and field.get("type") == "string":
                value[name] = PLACEHOLDERS.get(name, f"stand-in-{name}")
        return tfplugin_pb2.ReadDataSource.Response(state=pack(value))

    def PlanResourceChange(self, request, context):
        planned, prior = unpack(request.proposed_new_state), unpack(request.prior_state)
        if planned is not None and prior is None:
            for name, field in self.schema["resource"][request.type_name].items():
                if field["computed"] and planned[name] is None:
                    planned[name] = UNKNOWN
        return tfplugin_pb2.PlanResourceChange.Response(planned_state=pack(planned))

    def ApplyResourceChange(self, request, context):
        refusal = tfplugin_pb2.Diagnostic(
            severity=tfplugin_pb2.Diagnostic.ERROR,
            summary="this is a stand-in for the AWS provider",
            detail="It has its schema only and can create nothing. Install hashicorp/aws to apply.",
        )
        return tfplugin_pb2.ApplyResourceChange.Response(new_state=request.prior_state, diagnostics=[refusal])


class Controller(grpc_controller_pb2_grpc.GRPCControllerServicer):
    """How Terraform ends a provider."""

    def __init__(self, server):
        self.server = server

    def Shutdown(self, request, context):
        self.server.stop(grace=0.1)
        return grpc_controller_pb2.Empty()


class Output(grpc_stdio_pb2_grpc.GRPCStdioServicer):
    """What the provider prints: nothing."""

    def StreamStdio(self, request, context):
        return iter(())


def serve(schema, certificate):
    """Serves until Terraform has had enough. The first line tells where, by which protocol and with which certificate."""
    pem = pathlib.Path(certificate).read_bytes()
    der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=[("grpc.max_send_message_length", -1)])
    tfplugin_pb2_grpc.add_ProviderServicer_to_server(Provider(json.loads(pathlib.Path(schema).read_text())), server)
    grpc_controller_pb2_grpc.add_GRPCControllerServicer_to_server(Controller(server), server)
    grpc_stdio_pb2_grpc.add_GRPCStdioServicer_to_server(Output(), server)
    with tempfile.TemporaryDirectory() as directory:
        socket = f"{directory}/provider"
        server.add_secure_port(f"unix://{socket}", grpc.ssl_server_credentials([(pem, pem)]))
        server.start()
        print("|".join(["1", "6", "unix", socket, "grpc", base64.b64encode(der).decode().rstrip("=")]), flush=True)
        server.wait_for_termination()


def self_signed():
    """A key and a certificate for it, which Terraform learns from the first line: it need not be trusted otherwise."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=3650))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    text = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(*text) + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def install(schema, mirror, version):
    """Lays the provider out where `terraform init` looks."""
    machine = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine()]
    place = pathlib.Path(mirror, "registry.terraform.io/hashicorp/aws", version, f"{sys.platform}_{machine}").absolute()
    place.mkdir(parents=True)
    certificate = place / "certificate.pem"
    certificate.write_bytes(self_signed())
    certificate.chmod(stat.S_IRUSR | stat.S_IWUSR)
    here = place / "provider.py"
    here.write_bytes(pathlib.Path(__file__).read_bytes())
    command = [sys.executable, here, "serve", pathlib.Path(schema).absolute(), certificate]
    start = place / f"terraform-provider-aws_v{version}"
    start.write_text("#!/bin/sh\nexec " + " ".join(shlex.quote(str(word)) for word in command) + "\n")
    start.chmod(0o755)


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    {"install": install, "serve": serve}[sys.argv[1]](*sys.argv[2:])
