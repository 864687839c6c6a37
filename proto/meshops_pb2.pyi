from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OpCategory(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INSTALL: _ClassVar[OpCategory]
    SAMPLE_APPLICATION: _ClassVar[OpCategory]
    CONFIGURE: _ClassVar[OpCategory]
    VALIDATE: _ClassVar[OpCategory]
    CUSTOM: _ClassVar[OpCategory]

class EventType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INFO: _ClassVar[EventType]
    WARN: _ClassVar[EventType]
    ERROR: _ClassVar[EventType]
INSTALL: OpCategory
SAMPLE_APPLICATION: OpCategory
CONFIGURE: OpCategory
VALIDATE: OpCategory
CUSTOM: OpCategory
INFO: EventType
WARN: EventType
ERROR: EventType

class CreateMeshInstanceRequest(_message.Message):
    __slots__ = ("k8sConfig", "contextName")
    K8SCONFIG_FIELD_NUMBER: _ClassVar[int]
    CONTEXTNAME_FIELD_NUMBER: _ClassVar[int]
    k8sConfig: bytes
    contextName: str
    def __init__(self, k8sConfig: _Optional[bytes] = ..., contextName: _Optional[str] = ...) -> None: ...

class CreateMeshInstanceResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MeshNameRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MeshNameResponse(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class AdapterNameRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AdapterNameResponse(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class MeshVersionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MeshVersionsResponse(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[_Iterable[str]] = ...) -> None: ...

class AdapterVersionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AdapterVersionsResponse(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[_Iterable[str]] = ...) -> None: ...

class ApplyRuleRequest(_message.Message):
    __slots__ = ("opName", "namespace", "username", "custom_body", "delete_op", "operation_id", "kube_configs", "version")
    OPNAME_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_BODY_FIELD_NUMBER: _ClassVar[int]
    DELETE_OP_FIELD_NUMBER: _ClassVar[int]
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    KUBE_CONFIGS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    opName: str
    namespace: str
    username: str
    custom_body: str
    delete_op: bool
    operation_id: str
    kube_configs: _containers.RepeatedScalarFieldContainer[str]
    version: str
    def __init__(self, opName: _Optional[str] = ..., namespace: _Optional[str] = ..., username: _Optional[str] = ..., custom_body: _Optional[str] = ..., delete_op: _Optional[bool] = ..., operation_id: _Optional[str] = ..., kube_configs: _Optional[_Iterable[str]] = ..., version: _Optional[str] = ...) -> None: ...

class ApplyRuleResponse(_message.Message):
    __slots__ = ("error", "operation_id")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    error: str
    operation_id: str
    def __init__(self, error: _Optional[str] = ..., operation_id: _Optional[str] = ...) -> None: ...

class SupportedOperationsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SupportedOperationsResponse(_message.Message):
    __slots__ = ("ops", "error")
    OPS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ops: _containers.RepeatedCompositeFieldContainer[SupportedOperation]
    error: str
    def __init__(self, ops: _Optional[_Iterable[_Union[SupportedOperation, _Mapping]]] = ..., error: _Optional[str] = ...) -> None: ...

class SupportedOperation(_message.Message):
    __slots__ = ("key", "value", "category")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    category: OpCategory
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ..., category: _Optional[_Union[OpCategory, str]] = ...) -> None: ...

class EventsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EventsResponse(_message.Message):
    __slots__ = ("event_type", "summary", "details", "operation_id", "probable_cause", "suggested_remediation", "error_code", "component", "component_name")
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    PROBABLE_CAUSE_FIELD_NUMBER: _ClassVar[int]
    SUGGESTED_REMEDIATION_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_NAME_FIELD_NUMBER: _ClassVar[int]
    event_type: EventType
    summary: str
    details: str
    operation_id: str
    probable_cause: str
    suggested_remediation: str
    error_code: str
    component: str
    component_name: str
    def __init__(self, event_type: _Optional[_Union[EventType, str]] = ..., summary: _Optional[str] = ..., details: _Optional[str] = ..., operation_id: _Optional[str] = ..., probable_cause: _Optional[str] = ..., suggested_remediation: _Optional[str] = ..., error_code: _Optional[str] = ..., component: _Optional[str] = ..., component_name: _Optional[str] = ...) -> None: ...

class ProcessOAMRequest(_message.Message):
    __slots__ = ("username", "delete_op", "oam_comps", "oam_config", "kube_configs")
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    DELETE_OP_FIELD_NUMBER: _ClassVar[int]
    OAM_COMPS_FIELD_NUMBER: _ClassVar[int]
    OAM_CONFIG_FIELD_NUMBER: _ClassVar[int]
    KUBE_CONFIGS_FIELD_NUMBER: _ClassVar[int]
    username: str
    delete_op: bool
    oam_comps: _containers.RepeatedScalarFieldContainer[str]
    oam_config: str
    kube_configs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, username: _Optional[str] = ..., delete_op: _Optional[bool] = ..., oam_comps: _Optional[_Iterable[str]] = ..., oam_config: _Optional[str] = ..., kube_configs: _Optional[_Iterable[str]] = ...) -> None: ...

class ProcessOAMResponse(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: str
    def __init__(self, message: _Optional[str] = ...) -> None: ...

class ProvisionRequest(_message.Message):
    __slots__ = ("username", "delete_op", "declarations", "kube_configs")
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    DELETE_OP_FIELD_NUMBER: _ClassVar[int]
    DECLARATIONS_FIELD_NUMBER: _ClassVar[int]
    KUBE_CONFIGS_FIELD_NUMBER: _ClassVar[int]
    username: str
    delete_op: bool
    declarations: _containers.RepeatedScalarFieldContainer[str]
    kube_configs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, username: _Optional[str] = ..., delete_op: _Optional[bool] = ..., declarations: _Optional[_Iterable[str]] = ..., kube_configs: _Optional[_Iterable[str]] = ...) -> None: ...

class ProvisionResponse(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: str
    def __init__(self, message: _Optional[str] = ...) -> None: ...

class ComponentInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ComponentInfoResponse(_message.Message):
    __slots__ = ("type", "name", "version", "git_sha", "properties")
    class PropertiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GIT_SHA_FIELD_NUMBER: _ClassVar[int]
    PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    type: str
    name: str
    version: str
    git_sha: str
    properties: _containers.ScalarMap[str, str]
    def __init__(self, type: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., git_sha: _Optional[str] = ..., properties: _Optional[_Mapping[str, str]] = ...) -> None: ...
