"""SMP's messages: names, numbers and types as the specification has them, and proto3 JSON."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.timestamp_pb2 import Timestamp

from proto import generate, smp_pb2

# The type stubs know two unrelated classes for each kind of descriptor, so here they are `Any`.
AnyDescriptor = Any

_TYPES = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
}

# Fields in the order of their numbers, from 1.
MESSAGES = {
    "PerformanceTestConfig": "smp_version id name labels:map clients:Client* duration",
    "PerformanceTestConfig.Client": (
        "internal:bool load_generator protocol:Protocol connections:int32 rps:int64 headers:map "
        "cookies:map body content_type endpoint_urls* ssl_certificate additional_options"
    ),
    "PerformanceTestResult": (
        "smp_version id labels:map start_time:Timestamp end_time:Timestamp latencies_ms:Latency "
        "actual_qps:double details_uri test_id mesh_config_id env_id"
    ),
    "PerformanceTestResult.Latency": (
        "min:double average:double p50:double p90:double p99:double max:double"
    ),
    "PerformanceTestResult.CPU": (
        "cpu_mcores:int32 user:double nice:double system:double idle:double iowait:double "
        "hardware_interrupt:double software_interrupt:double steal:double"
    ),
    "PerformanceTestResult.Memory": "mem_total_mb:double mem_free_mb:double mem_used_mb:double",
    "PerformanceTestResult.Swap": "swap_total_mb:double swap_free_mb:double swap_used_mb:double",
    "ServiceMeshConfig": (
        "smp_version id labels:map ingress_gateway:IngressGateway sidecar:Sidecar "
        "mesh_telemetry:MeshTelemetry mesh_policy:MeshPolicy mesh_control_plane:MeshControlPlane "
        "mesh_policy_enabled:bool mesh_telemetry_enabled:bool mtls_enabled:bool "
        "proxy_concurrency:int32 mesh_build proxy_build exp_group_uuid exp_uuid profile "
        "mesh_type:ServiceMesh application_metadata:ApplicationMetadata"
    ),
    "ServiceMeshConfig.Sidecar": "count:int32 cpu_mcores:int32 mem_mb:int32 rps:int32 bps:int32",
    "ServiceMeshConfig.MeshPolicy": (
        "count:int32 cpu_mcores:int32 mem_mb:int32 rps:int32 cache_hit_rate:int32"
    ),
    "ServiceMeshConfig.MeshControlPlane": (
        "count:int32 cpu_mcores:int32 mem_mb:int32 endpoints:int32 services:int32 sidecars:int32 "
        "virtual_services:int32 destination_rules:int32 lds_latency_ms:int32 cds_latency_ms:int32"
    ),
    "EnvironmentConfig": (
        "smp_version id labels:map kubernetes_version nodes:Node* "
        "individual_workloads:IndividualWorkload* traffic_metadata:TrafficMetadata"
    ),
    "EnvironmentConfig.Node": "type cores:int32 mem_mb:int64",
    "ServiceMesh": "type:Type version labels:map annotations:map",
    "ApplicationMetadata": (
        "application_name application_version helmchart_name helmchart_version cnabspec_version "
        "compose_version cluster_name k8s_version_supported "
        "application_protocol:ApplicationProtocol"
    ),
    "TrafficMetadata": (
        "load_balance_name load_balance_ip host_endpoint prometheus_url http_headers user_agent "
        "ping_health_endpoint"
    ),
}


def descriptor_of(name: str) -> AnyDescriptor:
    outer, _, inner = name.partition(".")
    found: AnyDescriptor = smp_pb2.DESCRIPTOR.message_types_by_name[outer]
    return found.nested_types_by_name[inner] if inner else found


def told(field: AnyDescriptor) -> str:
    """A field as the table above has it."""
    named = field.message_type or field.enum_type
    if field.message_type and field.message_type.GetOptions().map_entry:
        return f"{field.name}:map"
    kind = named.name if named else _TYPES[field.type]
    text = field.name if kind == "string" else f"{field.name}:{kind}"
    return f"{text}*" if field.is_repeated else text


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_the_specifications(name: str) -> None:
    fields = sorted(descriptor_of(name).fields, key=lambda field: field.number)
    assert [field.number for field in fields] == list(range(1, len(fields) + 1))
    assert " ".join(told(field) for field in fields) == MESSAGES[name]


def test_the_enumerations_are_the_specifications() -> None:
    protocol = smp_pb2.PerformanceTestConfig.Client.Protocol
    assert dict(protocol.items()) == {
        "PROTOCOL_INVALID": 0,
        "PROTOCOL_HTTP": 1,
        "PROTOCOL_TCP": 2,
        "PROTOCOL_UDP": 3,
        "PROTOCOL_GRPC": 4,
    }
    meshes = (
        "INVALID_MESH APP_MESH CONSUL ISTIO KUMA LINKERD TRAEFIK_MESH OCTARINE "
        "NETWORK_SERVICE_MESH TANZU OPEN_SERVICE_MESH NGINX_SERVICE_MESH CILIUM_SERVICE_MESH"
    )
    assert dict(smp_pb2.ServiceMesh.Type.items()) == {
        name: number for number, name in enumerate(meshes.split())
    }
    application = smp_pb2.ApplicationMetadata.ApplicationProtocol
    assert dict(application.items()) == {
        "PROTOCOL_INVALID": 0,
        "PROTOCOL_HTTP": 1,
        "PROTOCOL_HTTPS": 2,
    }


def test_the_file_has_its_own_name_and_package() -> None:
    assert (smp_pb2.DESCRIPTOR.name, smp_pb2.DESCRIPTOR.package) == ("smp.proto", "smp")
    assert "smp_pb2.py" in generate.OUTPUTS


def test_a_file_of_a_test_reads_as_its_message() -> None:
    """As Meshery's documentation writes them."""
    test = {
        "smp_version": "v0.0.1",
        "name": "Istio Performance Test",
        "clients": [
            {
                "internal": False,
                "load_generator": "fortio",
                "protocol": 1,
                "connections": 2,
                "rps": 10,
                "headers": {"a": "b"},
                "endpoint_urls": ["http://localhost:2323/productpage"],
            }
        ],
        "duration": "1m",
    }
    read = ParseDict(test, smp_pb2.PerformanceTestConfig())
    assert read.clients[0].protocol == smp_pb2.PerformanceTestConfig.Client.PROTOCOL_HTTP
    assert (read.clients[0].rps, read.duration) == (10, "1m")


def test_a_result_is_written_with_the_names_of_the_file() -> None:
    result = smp_pb2.PerformanceTestResult(
        start_time=Timestamp(seconds=1),
        latencies_ms=smp_pb2.PerformanceTestResult.Latency(p99=2.5),
        actual_qps=10,
    )
    assert MessageToDict(result, preserving_proto_field_name=True) == {
        "start_time": "1970-01-01T00:00:01Z",
        "latencies_ms": {"p99": 2.5},
        "actual_qps": 10.0,
    }
    assert smp_pb2.PerformanceTestResult.FromString(result.SerializeToString()) == result
