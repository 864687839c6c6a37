"""One method for each RPC of Meshery's contract, all generations; no I/O library in sight."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from proto import meshops_pb2 as pb
from services.chassis.errors import ServiceDraining
from services.chassis.policy import Identity, Policy
from services.chassis.reading.aside import read_aside
from services.gateway import designs, wire
from services.gateway.catalogs import Catalogs
from services.gateway.door.accounts import Account
from services.gateway.intake import Intake, Peers, Target
from services.gateway.operations import Operations
from services.gateway.streaming.audiences import Audiences
from services.gateway.streaming.events import Joined, Write


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a call comes from."""

    identity: Identity
    account: Account
    connection: Callable[[], str]
    """A name that this connection of this identity has and no other one ever gets; "" where
    connections are not to be told apart, or not to be trusted for it."""
    size: int
    """Bytes of his request."""


Unary = Callable[[Any, Caller], Awaitable[Any]]
"""Answers a request."""


@dataclass(slots=True, kw_only=True)
class Handlers:
    """Serves `meshes.MeshService` and `meshes.AdapterService` alike."""

    catalogs: Catalogs
    operations: Operations
    events: Audiences
    intake: Intake
    peers: Peers
    policy: Callable[[], Policy]
    version: str
    git_sha: str
    body_limit: int
    call_deadline: timedelta
    """How long ProcessOAM and Provision wait for the work to be done."""
    is_draining: bool = False

    def unary(self) -> Mapping[str, Unary]:
        """Every unary RPC by its name, in whichever service it stands."""
        return {
            "CreateMeshInstance": self.create_mesh_instance,
            "MeshName": self.mesh_name,
            "AdapterName": self.adapter_name,
            "MeshVersions": self.mesh_versions,
            "AdapterVersions": self.adapter_versions,
            "ApplyOperation": self.apply_operation,
            "SupportedOperations": self.supported_operations,
            "ProcessOAM": self.process_oam,
            "Provision": self.provision,
            "ComponentInfo": self.component_info,
        }

    async def create_mesh_instance(
        self, request: pb.CreateMeshInstanceRequest, caller: Caller
    ) -> pb.CreateMeshInstanceResponse:
        """Generations A to C: the cluster of this connection's later operations."""
        target = await self.intake.chosen(request.k8sConfig, context=request.contextName)
        if connection := caller.connection():
            self.peers.remember(connection, target)
        return pb.CreateMeshInstanceResponse()

    async def mesh_name(self, _request: pb.MeshNameRequest, _caller: Caller) -> pb.MeshNameResponse:
        return pb.MeshNameResponse(name=wire.MESH)

    async def adapter_name(
        self, _request: pb.AdapterNameRequest, _caller: Caller
    ) -> pb.AdapterNameResponse:
        return pb.AdapterNameResponse(name=wire.MESH)

    async def mesh_versions(
        self, _request: pb.MeshVersionsRequest, _caller: Caller
    ) -> pb.MeshVersionsResponse:
        return pb.MeshVersionsResponse(version=self.catalogs.versions())

    async def adapter_versions(
        self, _request: pb.AdapterVersionsRequest, _caller: Caller
    ) -> pb.AdapterVersionsResponse:
        return pb.AdapterVersionsResponse(version=self.catalogs.versions())

    async def supported_operations(
        self, _request: pb.SupportedOperationsRequest, caller: Caller
    ) -> pb.SupportedOperationsResponse:
        policy = self.policy()
        offered = self.catalogs.operations()
        return wire.supported_operations(
            operation for operation in offered if policy.may_name(caller.identity, operation.name)
        )

    async def component_info(
        self, _request: pb.ComponentInfoRequest, _caller: Caller
    ) -> pb.ComponentInfoResponse:
        return wire.component_info(version=self.version, git_sha=self.git_sha)

    async def apply_operation(
        self, request: pb.ApplyRuleRequest, caller: Caller
    ) -> pb.ApplyRuleResponse:
        """Answers as soon as the operation is stored; its events report the rest."""
        if self.is_draining:
            raise ServiceDraining("the gateway is shutting down and takes no operations")
        asked, kubeconfigs = await read_aside(
            lambda: (
                wire.operation_request(request, body_limit=self.body_limit),
                _texts(request.kube_configs),
            ),
            size=caller.size,
        )
        remembered = await self._remembered(asked, kubeconfigs, caller)
        operation = await self.operations.apply(
            asked, kubeconfigs, identity=caller.identity, remembered=remembered
        )
        return pb.ApplyRuleResponse(error="", operation_id=operation)

    async def process_oam(
        self, request: pb.ProcessOAMRequest, caller: Caller
    ) -> pb.ProcessOAMResponse:
        """Generations B to F: components of a design; answers when the work is done."""
        body, kubeconfigs = await read_aside(
            lambda: (
                designs.process_oam_body(
                    request.oam_comps, request.oam_config, limit=self.body_limit
                ),
                _texts(request.kube_configs),
            ),
            size=caller.size,
        )
        lines = await self._deployed(request, body, kubeconfigs, caller)
        return pb.ProcessOAMResponse(message="\n".join(lines))

    async def provision(self, request: pb.ProvisionRequest, caller: Caller) -> pb.ProvisionResponse:
        """Generations G and H: the same, in Meshery's newer model."""
        body, kubeconfigs = await read_aside(
            lambda: (
                designs.provision_body(request.declarations, limit=self.body_limit),
                _texts(request.kube_configs),
            ),
            size=caller.size,
        )
        lines = await self._deployed(request, body, kubeconfigs, caller)
        return pb.ProvisionResponse(message="\n".join(lines))

    async def _deployed(
        self,
        request: pb.ProcessOAMRequest | pb.ProvisionRequest,
        body: str,
        kubeconfigs: Sequence[str],
        caller: Caller,
    ) -> list[str]:
        """One line for each component and cluster; raises when a cluster has not got all."""
        if self.is_draining:
            raise ServiceDraining("the gateway is shutting down and takes no operations")
        asked = wire.design_request(username=request.username, delete=request.delete_op, body=body)
        remembered = await self._remembered(asked, kubeconfigs, caller)
        ended = await self.operations.carried_out(
            asked,
            kubeconfigs,
            identity=caller.identity,
            remembered=remembered,
            within=self.call_deadline,
        )
        lines = wire.design_lines(ended.finals, ended.names)
        if not ended.is_success:
            raise ended.error("\n".join(lines).removesuffix("."))
        return lines

    async def _remembered(
        self, asked: wire.OperationRequest, kubeconfigs: Sequence[str], caller: Caller
    ) -> Target | None:
        """What CreateMeshInstance gave, for an operation without kubeconfigs of its own."""
        targets: Sequence[Target] = await self.intake.targets(kubeconfigs)
        remembered = None
        if not kubeconfigs and (connection := caller.connection()):
            remembered = self.peers.recall(connection)
            targets = [remembered] if remembered is not None else []
        caller.account.about(asked, [target.cluster for target in targets])
        return remembered

    async def stream_events(self, write: Write, joined: Joined, caller: Caller) -> None:
        """Until the client leaves, or the gateway does."""
        await self.events.serve(caller.identity, write, joined=joined)


def _texts(field: Iterable[str]) -> Sequence[str]:
    """A message makes each text anew whenever it is asked; of megabytes that is done once, and
    beside the loop."""
    return tuple(field)
