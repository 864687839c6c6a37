"""A small secret discovery service: hands one workload's certificate to its Envoy.

In a cluster, Istio's agent does this beside each Envoy. The secrets' names (`default`, `ROOTCA`)
are those that istiod's listeners ask for. Of Envoy's discovery protocol
(`envoy/service/discovery/v3/discovery.proto` and `.../transport_sockets/tls/v3/secret.proto` in
Envoy's API) only the fields below are used; a message definition made at run time spares the bed
Envoy's whole API as a dependency.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tests.testbed import loopback
from tests.testbed.pki import KeyPair
from tests.testbed.processes import BedError

_SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"
_SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
_PACKAGE = "meshbus.bed"
_Type = descriptor_pb2.FieldDescriptorProto

# Message → field number → name and type: a scalar's, or another message's name; `*` is repeated.
_FIELDS: dict[str, dict[int, tuple[str, str]]] = {
    "Status": {2: ("message", "string")},
    "DiscoveryRequest": {
        3: ("resource_names", "*string"),
        5: ("response_nonce", "string"),
        6: ("error_detail", "Status"),
    },
    "DiscoveryResponse": {
        1: ("version_info", "string"),
        2: ("resources", "*Resource"),
        4: ("type_url", "string"),
        5: ("nonce", "string"),
    },
    "Resource": {1: ("type_url", "string"), 2: ("value", "bytes")},
    "Secret": {
        1: ("name", "string"),
        2: ("tls_certificate", "Certificate"),
        4: ("validation_context", "Validation"),
    },
    "Certificate": {1: ("certificate_chain", "Data"), 2: ("private_key", "Data")},
    "Validation": {1: ("trusted_ca", "Data")},
    "Data": {2: ("inline_bytes", "bytes")},
}
_SCALARS = {"string": _Type.TYPE_STRING, "bytes": _Type.TYPE_BYTES}


class SecretsDiscovery:
    """Serves one identity on a port of loopback; the bed's keys are worth nothing elsewhere."""

    def __init__(self, identity: KeyPair, *, trusted_pem: bytes) -> None:
        """`identity` is the workload's own, `trusted_pem` the authority of those that call it."""
        self.port = loopback.take_port()
        self.rejections: list[str] = []
        self._secrets = {
            "default": _secret(
                "default",
                tls_certificate={
                    "certificate_chain": {"inline_bytes": identity.public_pem},
                    "private_key": {"inline_bytes": identity.private_pem},
                },
            ),
            "ROOTCA": _secret(
                "ROOTCA", validation_context={"trusted_ca": {"inline_bytes": trusted_pem}}
            ),
        }
        # A stream holds its thread; Envoy has one for each secret.
        self._threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="bed-secrets")
        self._server = grpc.server(self._threads)

    def __enter__(self) -> SecretsDiscovery:
        self.start()
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        self.stop()
        if self.rejections and failure is None:
            raise BedError(f"Envoy refused its certificates: {self.rejections}")

    def start(self) -> None:
        """Listens; whoever asks gets the secrets."""
        method = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=_MESSAGES["DiscoveryRequest"].FromString,
            response_serializer=_MESSAGES["DiscoveryResponse"].SerializeToString,
        )
        handler = grpc.method_handlers_generic_handler(_SERVICE, {"StreamSecrets": method})
        self._server.add_generic_rpc_handlers((handler,))
        self._server.add_insecure_port(f"{loopback.HOST}:{self.port}")
        self._server.start()

    def stop(self) -> None:
        """Ends all streams."""
        self._server.stop(grace=None).wait()
        self._threads.shutdown()

    def _stream(self, requests: Iterator[Any], _: grpc.ServicerContext) -> Iterator[Any]:
        """Answers what asks for other names than before; all else is an acknowledgement."""
        answered: list[str] = []
        for request in requests:
            if request.error_detail.message:
                self.rejections.append(request.error_detail.message)
            names = sorted(request.resource_names)
            if names == answered:
                continue
            answered = names
            secrets = [self._secrets[name] for name in names if name in self._secrets]
            yield _MESSAGES["DiscoveryResponse"](
                version_info="1", nonce="1", type_url=_SECRET_TYPE, resources=secrets
            )


def _build_messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="meshbus/bed/secrets.proto", package=_PACKAGE, syntax="proto3"
    )
    for message, fields in _FIELDS.items():
        definition = file.message_type.add(name=message)
        for number, (name, kind) in fields.items():
            added = definition.field.add(name=name, number=number)
            added.label = _Type.LABEL_REPEATED if kind[0] == "*" else _Type.LABEL_OPTIONAL
            kind = kind.removeprefix("*")
            added.type = _SCALARS.get(kind, _Type.TYPE_MESSAGE)
            if kind not in _SCALARS:
                added.type_name = f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        message: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{_PACKAGE}.{message}")
        )
        for message in _FIELDS
    }


_MESSAGES = _build_messages()


def _secret(name: str, **content: Any) -> Any:
    secret = _MESSAGES["Secret"](name=name, **content)
    return _MESSAGES["Resource"](type_url=_SECRET_TYPE, value=secret.SerializeToString())
