import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PerformanceTestConfig(_message.Message):
    __slots__ = ("smp_version", "id", "name", "labels", "clients", "duration")
    class Client(_message.Message):
        __slots__ = ("internal", "load_generator", "protocol", "connections", "rps", "headers", "cookies", "body", "content_type", "endpoint_urls", "ssl_certificate", "additional_options")
        class Protocol(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
            __slots__ = ()
            PROTOCOL_INVALID: _ClassVar[PerformanceTestConfig.Client.Protocol]
            PROTOCOL_HTTP: _ClassVar[PerformanceTestConfig.Client.Protocol]
            PROTOCOL_TCP: _ClassVar[PerformanceTestConfig.Client.Protocol]
            PROTOCOL_UDP: _ClassVar[PerformanceTestConfig.Client.Protocol]
            PROTOCOL_GRPC: _ClassVar[PerformanceTestConfig.Client.Protocol]
        PROTOCOL_INVALID: PerformanceTestConfig.Client.Protocol
        PROTOCOL_HTTP: PerformanceTestConfig.Client.Protocol
        PROTOCOL_TCP: PerformanceTestConfig.Client.Protocol
        PROTOCOL_UDP: PerformanceTestConfig.Client.Protocol
        PROTOCOL_GRPC: PerformanceTestConfig.Client.Protocol
        class HeadersEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: str
            def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
        class CookiesEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: str
            def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
        INTERNAL_FIELD_NUMBER: _ClassVar[int]
        LOAD_GENERATOR_FIELD_NUMBER: _ClassVar[int]
        PROTOCOL_FIELD_NUMBER: _ClassVar[int]
        CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
        RPS_FIELD_NUMBER: _ClassVar[int]
        HEADERS_FIELD_NUMBER: _ClassVar[int]
        COOKIES_FIELD_NUMBER: _ClassVar[int]
        BODY_FIELD_NUMBER: _ClassVar[int]
        CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
        ENDPOINT_URLS_FIELD_NUMBER: _ClassVar[int]
        SSL_CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
        ADDITIONAL_OPTIONS_FIELD_NUMBER: _ClassVar[int]
        internal: bool
        load_generator: str
        protocol: PerformanceTestConfig.Client.Protocol
        connections: int
        rps: int
        headers: _containers.ScalarMap[str, str]
        cookies: _containers.ScalarMap[str, str]
        body: str
        content_type: str
        endpoint_urls: _containers.RepeatedScalarFieldContainer[str]
        ssl_certificate: str
        additional_options: str
        def __init__(self, internal: _Optional[bool] = ..., load_generator: _Optional[str] = ..., protocol: _Optional[_Union[PerformanceTestConfig.Client.Protocol, str]] = ..., connections: _Optional[int] = ..., rps: _Optional[int] = ..., headers: _Optional[_Mapping[str, str]] = ..., cookies: _Optional[_Mapping[str, str]] = ..., body: _Optional[str] = ..., content_type: _Optional[str] = ..., endpoint_urls: _Optional[_Iterable[str]] = ..., ssl_certificate: _Optional[str] = ..., additional_options: _Optional[str] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SMP_VERSION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    smp_version: str
    id: str
    name: str
    labels: _containers.ScalarMap[str, str]
    clients: _containers.RepeatedCompositeFieldContainer[PerformanceTestConfig.Client]
    duration: str
    def __init__(self, smp_version: _Optional[str] = ..., id: _Optional[str] = ..., name: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., clients: _Optional[_Iterable[_Union[PerformanceTestConfig.Client, _Mapping]]] = ..., duration: _Optional[str] = ...) -> None: ...

class PerformanceTestResult(_message.Message):
    __slots__ = ("smp_version", "id", "labels", "start_time", "end_time", "latencies_ms", "actual_qps", "details_uri", "test_id", "mesh_config_id", "env_id")
    class Latency(_message.Message):
        __slots__ = ("min", "average", "p50", "p90", "p99", "max")
        MIN_FIELD_NUMBER: _ClassVar[int]
        AVERAGE_FIELD_NUMBER: _ClassVar[int]
        P50_FIELD_NUMBER: _ClassVar[int]
        P90_FIELD_NUMBER: _ClassVar[int]
        P99_FIELD_NUMBER: _ClassVar[int]
        MAX_FIELD_NUMBER: _ClassVar[int]
        min: float
        average: float
        p50: float
        p90: float
        p99: float
        max: float
        def __init__(self, min: _Optional[float] = ..., average: _Optional[float] = ..., p50: _Optional[float] = ..., p90: _Optional[float] = ..., p99: _Optional[float] = ..., max: _Optional[float] = ...) -> None: ...
    class CPU(_message.Message):
        __slots__ = ("cpu_mcores", "user", "nice", "system", "idle", "iowait", "hardware_interrupt", "software_interrupt", "steal")
        CPU_MCORES_FIELD_NUMBER: _ClassVar[int]
        USER_FIELD_NUMBER: _ClassVar[int]
        NICE_FIELD_NUMBER: _ClassVar[int]
        SYSTEM_FIELD_NUMBER: _ClassVar[int]
        IDLE_FIELD_NUMBER: _ClassVar[int]
        IOWAIT_FIELD_NUMBER: _ClassVar[int]
        HARDWARE_INTERRUPT_FIELD_NUMBER: _ClassVar[int]
        SOFTWARE_INTERRUPT_FIELD_NUMBER: _ClassVar[int]
        STEAL_FIELD_NUMBER: _ClassVar[int]
        cpu_mcores: int
        user: float
        nice: float
        system: float
        idle: float
        iowait: float
        hardware_interrupt: float
        software_interrupt: float
        steal: float
        def __init__(self, cpu_mcores: _Optional[int] = ..., user: _Optional[float] = ..., nice: _Optional[float] = ..., system: _Optional[float] = ..., idle: _Optional[float] = ..., iowait: _Optional[float] = ..., hardware_interrupt: _Optional[float] = ..., software_interrupt: _Optional[float] = ..., steal: _Optional[float] = ...) -> None: ...
    class Memory(_message.Message):
        __slots__ = ("mem_total_mb", "mem_free_mb", "mem_used_mb")
        MEM_TOTAL_MB_FIELD_NUMBER: _ClassVar[int]
        MEM_FREE_MB_FIELD_NUMBER: _ClassVar[int]
        MEM_USED_MB_FIELD_NUMBER: _ClassVar[int]
        mem_total_mb: float
        mem_free_mb: float
        mem_used_mb: float
        def __init__(self, mem_total_mb: _Optional[float] = ..., mem_free_mb: _Optional[float] = ..., mem_used_mb: _Optional[float] = ...) -> None: ...
    class Swap(_message.Message):
        __slots__ = ("swap_total_mb", "swap_free_mb", "swap_used_mb")
        SWAP_TOTAL_MB_FIELD_NUMBER: _ClassVar[int]
        SWAP_FREE_MB_FIELD_NUMBER: _ClassVar[int]
        SWAP_USED_MB_FIELD_NUMBER: _ClassVar[int]
        swap_total_mb: float
        swap_free_mb: float
        swap_used_mb: float
        def __init__(self, swap_total_mb: _Optional[float] = ..., swap_free_mb: _Optional[float] = ..., swap_used_mb: _Optional[float] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SMP_VERSION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    LATENCIES_MS_FIELD_NUMBER: _ClassVar[int]
    ACTUAL_QPS_FIELD_NUMBER: _ClassVar[int]
    DETAILS_URI_FIELD_NUMBER: _ClassVar[int]
    TEST_ID_FIELD_NUMBER: _ClassVar[int]
    MESH_CONFIG_ID_FIELD_NUMBER: _ClassVar[int]
    ENV_ID_FIELD_NUMBER: _ClassVar[int]
    smp_version: str
    id: str
    labels: _containers.ScalarMap[str, str]
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    latencies_ms: PerformanceTestResult.Latency
    actual_qps: float
    details_uri: str
    test_id: str
    mesh_config_id: str
    env_id: str
    def __init__(self, smp_version: _Optional[str] = ..., id: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., latencies_ms: _Optional[_Union[PerformanceTestResult.Latency, _Mapping]] = ..., actual_qps: _Optional[float] = ..., details_uri: _Optional[str] = ..., test_id: _Optional[str] = ..., mesh_config_id: _Optional[str] = ..., env_id: _Optional[str] = ...) -> None: ...

class ServiceMeshConfig(_message.Message):
    __slots__ = ("smp_version", "id", "labels", "ingress_gateway", "sidecar", "mesh_telemetry", "mesh_policy", "mesh_control_plane", "mesh_policy_enabled", "mesh_telemetry_enabled", "mtls_enabled", "proxy_concurrency", "mesh_build", "proxy_build", "exp_group_uuid", "exp_uuid", "profile", "mesh_type", "application_metadata")
    class IngressGateway(_message.Message):
        __slots__ = ("count", "cpu_mcores", "mem_mb", "rps", "bps")
        COUNT_FIELD_NUMBER: _ClassVar[int]
        CPU_MCORES_FIELD_NUMBER: _ClassVar[int]
        MEM_MB_FIELD_NUMBER: _ClassVar[int]
        RPS_FIELD_NUMBER: _ClassVar[int]
        BPS_FIELD_NUMBER: _ClassVar[int]
        count: int
        cpu_mcores: int
        mem_mb: int
        rps: int
        bps: int
        def __init__(self, count: _Optional[int] = ..., cpu_mcores: _Optional[int] = ..., mem_mb: _Optional[int] = ..., rps: _Optional[int] = ..., bps: _Optional[int] = ...) -> None: ...
    class EgressGateway(_message.Message):
        __slots__ = ("count", "cpu_mcores", "mem_mb", "rps", "bps")
        COUNT_FIELD_NUMBER: _ClassVar[int]
        CPU_MCORES_FIELD_NUMBER: _ClassVar[int]
        MEM_MB_FIELD_NUMBER: _ClassVar[int]
        RPS_FIELD_NUMBER: _ClassVar[int]
        BPS_FIELD_NUMBER: _ClassVar[int]
        count: int
        cpu_mcores: int
        mem_mb: int
        rps: int
        bps: int
        def __init__(self, count: _Optional[int] = ..., cpu_mcores: _Optional[int] = ..., mem_mb: _Optional[int] = ..., rps: _Optional[int] = ..., bps: _Optional[int] = ...) -> None: ...
    class Sidecar(_message.Message):
        __slots__ = ("count", "cpu_mcores", "mem_mb", "rps", "bps")
        COUNT_FIELD_NUMBER: _ClassVar[int]
        CPU_MCORES_FIELD_NUMBER: _ClassVar[int]
        MEM_MB_FIELD_NUMBER: _ClassVar[int]
        RPS_FIELD_NUMBER: _ClassVar[int]
        BPS_FIELD_NUMBER: _ClassVar[int]
        count: int
        cpu_mcores: int
        mem_mb: int
        rps: int
        bps: int
        def __init__(self, count: _Optional[int] = ..., cpu_mcores: _Optional[int] = ..., mem_mb: _Optional[int] = ..., rps: _Optional[int] = ..., bps: _Optional[int] = ...) -> None: ...
    class MeshTelemetry(_message.Message):
        __slots__ = ("count", "cpu_mcores", "mem_mb", "rps")
        COUNT_FIELD_NUMBER: _ClassVar[int]
        CPU_MCORES_FIELD_NUMBER: _ClassVar[int]
        MEM_MB_FIELD_NUMBER: _ClassVar[int]
        RPS_FIELD_NUMBER: _ClassVar[int]
        count: int
        cpu_mcores: int
        mem_mb: int
        rps: int
        def __init__(self, count: _Optional[int] = ..., cpu_mcores: _Optional[int] = ..., mem_mb: _Optional[int] = ..., rps: _Optional[int] = ...) -> None: ...
    class MeshPolicy(_message.Message):
        __slots__ = ("count", "cpu_mcores", "mem_mb", "rps", "cache_hit_rate")
        COUNT_FIELD_NUMBER: _ClassVar[int]
        CPU_MCORES_FIELD_NUMBER: _ClassVar[int]
        MEM_MB_FIELD_NUMBER: _ClassVar[int]
        RPS_FIELD_NUMBER: _ClassVar[int]
        CACHE_HIT_RATE_FIELD_NUMBER: _ClassVar[int]
        count: int
        cpu_mcores: int
        mem_mb: int
        rps: int
        cache_hit_rate: int
        def __init__(self, count: _Optional[int] = ..., cpu_mcores: _Optional[int] = ..., mem_mb: _Optional[int] = ..., rps: _Optional[int] = ..., cache_hit_rate: _Optional[int] = ...) -> None: ...
    class MeshControlPlane(_message.Message):
        __slots__ = ("count", "cpu_mcores", "mem_mb", "endpoints", "services", "sidecars", "virtual_services", "destination_rules", "lds_latency_ms", "cds_latency_ms")
        COUNT_FIELD_NUMBER: _ClassVar[int]
        CPU_MCORES_FIELD_NUMBER: _ClassVar[int]
        MEM_MB_FIELD_NUMBER: _ClassVar[int]
        ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
        SERVICES_FIELD_NUMBER: _ClassVar[int]
        SIDECARS_FIELD_NUMBER: _ClassVar[int]
        VIRTUAL_SERVICES_FIELD_NUMBER: _ClassVar[int]
        DESTINATION_RULES_FIELD_NUMBER: _ClassVar[int]
        LDS_LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
        CDS_LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
        count: int
        cpu_mcores: int
        mem_mb: int
        endpoints: int
        services: int
        sidecars: int
        virtual_services: int
        destination_rules: int
        lds_latency_ms: int
        cds_latency_ms: int
        def __init__(self, count: _Optional[int] = ..., cpu_mcores: _Optional[int] = ..., mem_mb: _Optional[int] = ..., endpoints: _Optional[int] = ..., services: _Optional[int] = ..., sidecars: _Optional[int] = ..., virtual_services: _Optional[int] = ..., destination_rules: _Optional[int] = ..., lds_latency_ms: _Optional[int] = ..., cds_latency_ms: _Optional[int] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SMP_VERSION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    INGRESS_GATEWAY_FIELD_NUMBER: _ClassVar[int]
    SIDECAR_FIELD_NUMBER: _ClassVar[int]
    MESH_TELEMETRY_FIELD_NUMBER: _ClassVar[int]
    MESH_POLICY_FIELD_NUMBER: _ClassVar[int]
    MESH_CONTROL_PLANE_FIELD_NUMBER: _ClassVar[int]
    MESH_POLICY_ENABLED_FIELD_NUMBER: _ClassVar[int]
    MESH_TELEMETRY_ENABLED_FIELD_NUMBER: _ClassVar[int]
    MTLS_ENABLED_FIELD_NUMBER: _ClassVar[int]
    PROXY_CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    MESH_BUILD_FIELD_NUMBER: _ClassVar[int]
    PROXY_BUILD_FIELD_NUMBER: _ClassVar[int]
    EXP_GROUP_UUID_FIELD_NUMBER: _ClassVar[int]
    EXP_UUID_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    MESH_TYPE_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_METADATA_FIELD_NUMBER: _ClassVar[int]
    smp_version: str
    id: str
    labels: _containers.ScalarMap[str, str]
    ingress_gateway: ServiceMeshConfig.IngressGateway
    sidecar: ServiceMeshConfig.Sidecar
    mesh_telemetry: ServiceMeshConfig.MeshTelemetry
    mesh_policy: ServiceMeshConfig.MeshPolicy
    mesh_control_plane: ServiceMeshConfig.MeshControlPlane
    mesh_policy_enabled: bool
    mesh_telemetry_enabled: bool
    mtls_enabled: bool
    proxy_concurrency: int
    mesh_build: str
    proxy_build: str
    exp_group_uuid: str
    exp_uuid: str
    profile: str
    mesh_type: ServiceMesh
    application_metadata: ApplicationMetadata
    def __init__(self, smp_version: _Optional[str] = ..., id: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., ingress_gateway: _Optional[_Union[ServiceMeshConfig.IngressGateway, _Mapping]] = ..., sidecar: _Optional[_Union[ServiceMeshConfig.Sidecar, _Mapping]] = ..., mesh_telemetry: _Optional[_Union[ServiceMeshConfig.MeshTelemetry, _Mapping]] = ..., mesh_policy: _Optional[_Union[ServiceMeshConfig.MeshPolicy, _Mapping]] = ..., mesh_control_plane: _Optional[_Union[ServiceMeshConfig.MeshControlPlane, _Mapping]] = ..., mesh_policy_enabled: _Optional[bool] = ..., mesh_telemetry_enabled: _Optional[bool] = ..., mtls_enabled: _Optional[bool] = ..., proxy_concurrency: _Optional[int] = ..., mesh_build: _Optional[str] = ..., proxy_build: _Optional[str] = ..., exp_group_uuid: _Optional[str] = ..., exp_uuid: _Optional[str] = ..., profile: _Optional[str] = ..., mesh_type: _Optional[_Union[ServiceMesh, _Mapping]] = ..., application_metadata: _Optional[_Union[ApplicationMetadata, _Mapping]] = ...) -> None: ...

class EnvironmentConfig(_message.Message):
    __slots__ = ("smp_version", "id", "labels", "kubernetes_version", "nodes", "individual_workloads", "traffic_metadata")
    class Node(_message.Message):
        __slots__ = ("type", "cores", "mem_mb")
        TYPE_FIELD_NUMBER: _ClassVar[int]
        CORES_FIELD_NUMBER: _ClassVar[int]
        MEM_MB_FIELD_NUMBER: _ClassVar[int]
        type: str
        cores: int
        mem_mb: int
        def __init__(self, type: _Optional[str] = ..., cores: _Optional[int] = ..., mem_mb: _Optional[int] = ...) -> None: ...
    class IndividualWorkload(_message.Message):
        __slots__ = ("name", "count", "cpu_mcores", "mem_mb")
        NAME_FIELD_NUMBER: _ClassVar[int]
        COUNT_FIELD_NUMBER: _ClassVar[int]
        CPU_MCORES_FIELD_NUMBER: _ClassVar[int]
        MEM_MB_FIELD_NUMBER: _ClassVar[int]
        name: str
        count: int
        cpu_mcores: int
        mem_mb: int
        def __init__(self, name: _Optional[str] = ..., count: _Optional[int] = ..., cpu_mcores: _Optional[int] = ..., mem_mb: _Optional[int] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SMP_VERSION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    KUBERNETES_VERSION_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    INDIVIDUAL_WORKLOADS_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_METADATA_FIELD_NUMBER: _ClassVar[int]
    smp_version: str
    id: str
    labels: _containers.ScalarMap[str, str]
    kubernetes_version: str
    nodes: _containers.RepeatedCompositeFieldContainer[EnvironmentConfig.Node]
    individual_workloads: _containers.RepeatedCompositeFieldContainer[EnvironmentConfig.IndividualWorkload]
    traffic_metadata: TrafficMetadata
    def __init__(self, smp_version: _Optional[str] = ..., id: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., kubernetes_version: _Optional[str] = ..., nodes: _Optional[_Iterable[_Union[EnvironmentConfig.Node, _Mapping]]] = ..., individual_workloads: _Optional[_Iterable[_Union[EnvironmentConfig.IndividualWorkload, _Mapping]]] = ..., traffic_metadata: _Optional[_Union[TrafficMetadata, _Mapping]] = ...) -> None: ...

class ServiceMesh(_message.Message):
    __slots__ = ("type", "version", "labels", "annotations")
    class Type(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        INVALID_MESH: _ClassVar[ServiceMesh.Type]
        APP_MESH: _ClassVar[ServiceMesh.Type]
        CONSUL: _ClassVar[ServiceMesh.Type]
        ISTIO: _ClassVar[ServiceMesh.Type]
        KUMA: _ClassVar[ServiceMesh.Type]
        LINKERD: _ClassVar[ServiceMesh.Type]
        TRAEFIK_MESH: _ClassVar[ServiceMesh.Type]
        OCTARINE: _ClassVar[ServiceMesh.Type]
        NETWORK_SERVICE_MESH: _ClassVar[ServiceMesh.Type]
        TANZU: _ClassVar[ServiceMesh.Type]
        OPEN_SERVICE_MESH: _ClassVar[ServiceMesh.Type]
        NGINX_SERVICE_MESH: _ClassVar[ServiceMesh.Type]
        CILIUM_SERVICE_MESH: _ClassVar[ServiceMesh.Type]
    INVALID_MESH: ServiceMesh.Type
    APP_MESH: ServiceMesh.Type
    CONSUL: ServiceMesh.Type
    ISTIO: ServiceMesh.Type
    KUMA: ServiceMesh.Type
    LINKERD: ServiceMesh.Type
    TRAEFIK_MESH: ServiceMesh.Type
    OCTARINE: ServiceMesh.Type
    NETWORK_SERVICE_MESH: ServiceMesh.Type
    TANZU: ServiceMesh.Type
    OPEN_SERVICE_MESH: ServiceMesh.Type
    NGINX_SERVICE_MESH: ServiceMesh.Type
    CILIUM_SERVICE_MESH: ServiceMesh.Type
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class AnnotationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TYPE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    type: ServiceMesh.Type
    version: str
    labels: _containers.ScalarMap[str, str]
    annotations: _containers.ScalarMap[str, str]
    def __init__(self, type: _Optional[_Union[ServiceMesh.Type, str]] = ..., version: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., annotations: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ApplicationMetadata(_message.Message):
    __slots__ = ("application_name", "application_version", "helmchart_name", "helmchart_version", "cnabspec_version", "compose_version", "cluster_name", "k8s_version_supported", "application_protocol")
    class ApplicationProtocol(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PROTOCOL_INVALID: _ClassVar[ApplicationMetadata.ApplicationProtocol]
        PROTOCOL_HTTP: _ClassVar[ApplicationMetadata.ApplicationProtocol]
        PROTOCOL_HTTPS: _ClassVar[ApplicationMetadata.ApplicationProtocol]
    PROTOCOL_INVALID: ApplicationMetadata.ApplicationProtocol
    PROTOCOL_HTTP: ApplicationMetadata.ApplicationProtocol
    PROTOCOL_HTTPS: ApplicationMetadata.ApplicationProtocol
    APPLICATION_NAME_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_VERSION_FIELD_NUMBER: _ClassVar[int]
    HELMCHART_NAME_FIELD_NUMBER: _ClassVar[int]
    HELMCHART_VERSION_FIELD_NUMBER: _ClassVar[int]
    CNABSPEC_VERSION_FIELD_NUMBER: _ClassVar[int]
    COMPOSE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_NAME_FIELD_NUMBER: _ClassVar[int]
    K8S_VERSION_SUPPORTED_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    application_name: str
    application_version: str
    helmchart_name: str
    helmchart_version: str
    cnabspec_version: str
    compose_version: str
    cluster_name: str
    k8s_version_supported: str
    application_protocol: ApplicationMetadata.ApplicationProtocol
    def __init__(self, application_name: _Optional[str] = ..., application_version: _Optional[str] = ..., helmchart_name: _Optional[str] = ..., helmchart_version: _Optional[str] = ..., cnabspec_version: _Optional[str] = ..., compose_version: _Optional[str] = ..., cluster_name: _Optional[str] = ..., k8s_version_supported: _Optional[str] = ..., application_protocol: _Optional[_Union[ApplicationMetadata.ApplicationProtocol, str]] = ...) -> None: ...

class TrafficMetadata(_message.Message):
    __slots__ = ("load_balance_name", "load_balance_ip", "host_endpoint", "prometheus_url", "http_headers", "user_agent", "ping_health_endpoint")
    LOAD_BALANCE_NAME_FIELD_NUMBER: _ClassVar[int]
    LOAD_BALANCE_IP_FIELD_NUMBER: _ClassVar[int]
    HOST_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    PROMETHEUS_URL_FIELD_NUMBER: _ClassVar[int]
    HTTP_HEADERS_FIELD_NUMBER: _ClassVar[int]
    USER_AGENT_FIELD_NUMBER: _ClassVar[int]
    PING_HEALTH_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    load_balance_name: str
    load_balance_ip: str
    host_endpoint: str
    prometheus_url: str
    http_headers: str
    user_agent: str
    ping_health_endpoint: str
    def __init__(self, load_balance_name: _Optional[str] = ..., load_balance_ip: _Optional[str] = ..., host_endpoint: _Optional[str] = ..., prometheus_url: _Optional[str] = ..., http_headers: _Optional[str] = ..., user_agent: _Optional[str] = ..., ping_health_endpoint: _Optional[str] = ...) -> None: ...
