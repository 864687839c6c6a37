"""The operation `istio-multicluster`: each cluster's steps, which all clusters take together.

The machine is that of rollouts: commands wait in the bucket, and whoever conducts gives the next
step when every cluster has taken the one before. A step does only what is missing, so that an
operation that was stopped is sent again. What one cluster gives for the others lies sealed in its
part until they have it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import orjson
import structlog

from services.chassis.bus.subjects import hash_token
from services.chassis.errors import (
    ClusterError,
    ClusterOutOfSight,
    ClustersDiffer,
    NotReadyInTime,
    ObjectNotFound,
    RootsDiffer,
)
from services.chassis.kube.forwarding import page_of
from services.chassis.kube.objects import KubeObject, Ref, annotations_of, labels_of
from services.chassis.messages import Command
from services.chassis.operations.completion import Result
from services.chassis.reading.aside import read_aside
from services.chassis.reading.jsons import read_json
from services.chassis.telemetry import redaction
from services.lifecycle.applications.samples import Samples
from services.lifecycle.authority import asker
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.inventory import take_inventory
from services.lifecycle.manifests.objects import PlannedObject, Wave, listing
from services.lifecycle.manifests.work import Work
from services.lifecycle.mesh.crossing import NAME as GATEWAY
from services.lifecycle.mesh.installing import Installer, missing_namespace
from services.lifecycle.mesh.requests import MeshRequest
from services.lifecycle.mesh.safety import check_last
from services.lifecycle.mesh.uninstalling import check_removal, uninstall
from services.lifecycle.multicluster.options import (
    ClusterOptions,
    MultiClusterRequest,
    parse_multicluster,
)
from services.lifecycle.multicluster.prechecks import (
    NETWORK,
    compare,
    look,
    refuse,
    wanted_version,
)
from services.lifecycle.multicluster.remotes import (
    ACCOUNT,
    CONFIG,
    CONTROLLER,
    Token,
    cacerts,
    data_of,
    is_of_account,
    is_ours,
    remote_name,
    remote_secret,
    token_in,
    token_name,
    token_secret,
)
from services.lifecycle.multicluster.roots import Roots
from services.lifecycle.multicluster.trust import (
    SECRET,
    Root,
    fingerprint,
    make_intermediate,
    standing,
)
from services.lifecycle.rollouts.records import (
    PartRecord,
    RolloutPart,
    RolloutRecord,
    RolloutStep,
)
from services.lifecycle.rollouts.steps import Parts, Stepping, Taken

_AUTHORITY = "meshbus.io/authority"
"""Annotation of istiod's pods: what they sign with. Another one lets them start anew."""
_DOOR = "istiod-external"
"""Service of an external control plane."""
_EXPOSED = "multicluster/expose-services.yaml"
_EXPOSED_ISTIOD = "multicluster/expose-istiod.yaml"
_EXPOSING = (
    ("Gateway", "cross-network-gateway"),
    ("Gateway", "istiod-gateway"),
    ("VirtualService", "istiod-vs"),
)
_MANAGED_BY = "topology.istio.io/controlPlaneClusters"
"""Annotation of a remote cluster's namespace."""
_SOMEWHERE = "istiod.invalid"
"""In place of an address that is not known before the primary stands."""
_SECRETS = ("v1", "Secret")
_TOKEN_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.5
_DEBUG_PORT = 15014
_MOST_BYTES = 1024 * 1024

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiCluster(Parts[MultiClusterRequest]):
    """The operation `istio-multicluster` in one worker."""

    installer: Installer
    samples: Samples
    roots: Roots
    waits: ClassVar[str] = "Waits for the other clusters of"

    async def plan(self, command: Command) -> MultiClusterRequest:
        body, version, verb = command.body, command.version, command.verb
        return await read_aside(
            lambda: parse_multicluster(body, version=version, verb=verb), size=len(body)
        )

    def stepping(self, taken: Taken, plan: MultiClusterRequest) -> Stepping:
        kind = _Hosting if plan.options.is_external else _Joining
        return kind(taken, self, plan)

    def result(self, record: RolloutRecord, part: RolloutPart, kept: PartRecord) -> Result:
        found = kept.found
        if record.what == "mesh-leave":
            if found.get("left") == "yes":
                return Result(f"Cluster {part.name} has left {record.title} successfully")
            return Result(f"Cluster {part.name} has parted successfully from those that left")
        network = f", network {found['network']}" if found.get("network") else ""
        return Result(
            f"Cluster {part.name} has joined {record.title} successfully",
            f"Istio {found.get('version', '?')}, revision {found.get('revision', '?')}{network}; "
            + (
                f"root {found['root'][:16]}; other clusters that it reads: {len(record.parts) - 1}"
                if found.get("root")
                else f"its control plane is at {found.get('discovery', '?')}"
            )
            + (f", as istiod says: {found['seen']}" if found.get("seen") else ""),
            (("clusters", len(record.parts)), ("seconds", sum(kept.seconds.values()))),
        )


class _Joining(Stepping):
    """A step of one cluster's way into a mesh, or out of it."""

    what = "Mesh"
    account = ACCOUNT
    """By which a cluster is read."""
    titles: Mapping[RolloutStep, str] = {
        RolloutStep.PRECHECK: "what is there",
        RolloutStep.COMPARE: "prechecks",
        RolloutStep.TRUST: "its intermediate authority",
        RolloutStep.PLANE: "its control plane",
        RolloutStep.REMOTE: "the way to its control plane",
        RolloutStep.ACCOUNT: "the account by which others read it",
        RolloutStep.LINK: "the other clusters' secrets",
        RolloutStep.CROSS: "its gateway for other networks",
        RolloutStep.CHECK: "whether it sees the others",
        RolloutStep.RETIRE: "what was replaced goes",
        RolloutStep.UNLINK: "secrets of those that part go",
        RolloutStep.LEAVE: "it leaves",
    }
    looking = frozenset({RolloutStep.PRECHECK, RolloutStep.COMPARE, RolloutStep.CHECK})

    def __init__(self, taken: Taken, own: MultiCluster, request: MultiClusterRequest) -> None:
        super().__init__(taken, own.store)
        self.own, self.request = own, request

    def steps(self) -> Mapping[RolloutStep, Callable[[], Awaitable[None]]]:
        return {
            RolloutStep.PRECHECK: self._precheck,
            RolloutStep.COMPARE: self._compare,
            RolloutStep.TRUST: self._trust,
            RolloutStep.PLANE: self._plane,
            RolloutStep.REMOTE: self._remote,
            RolloutStep.ACCOUNT: self._account,
            RolloutStep.LINK: self._link,
            RolloutStep.CROSS: self._cross,
            RolloutStep.CHECK: self._check,
            RolloutStep.RETIRE: self._retire,
            RolloutStep.UNLINK: self._unlink,
            RolloutStep.LEAVE: self._leave,
        }

    # --- before the first write -----------------------------------------------------------------

    async def _precheck(self) -> None:
        """Tells the others what the cluster is."""
        uid = await self.work.cluster.identity()
        await self.own.store.claim(uid, rollout=self.kept.rollout, cluster=self.kept.cluster)
        await self.keep(uid=uid, found=await look(self.work, self.request))
        await self._require_removable()

    async def _require_removable(self) -> None:
        """Refuses before anything of a remote cluster that leaves is taken away: half of that would
        be a cluster whose control plane knows it no more."""
        if self._own.is_remote and self._own in self.request.leavers:
            await check_removal(self.work, self._leaving())

    async def _compare(self) -> None:
        """Holds all clusters against each other, and this one against what an install asks."""
        parts = await self._parts()
        missing = sorted({one.name for one in self.request.options.clusters} - parts.keys())
        if missing:
            reasons = {p.name: p.reason.summary for p in self.record.parts.values() if p.reason}
            told = "; ".join(f"{name}: {reasons.get(name, 'it has not come')}" for name in missing)
            raise ClustersDiffer(
                f"not all clusters of the mesh take part: {told}",
                cause="a mesh of several clusters is made of all of them, or of none",
                remedy="mend that and send the operation again",
            )
        found = {name: part.found for name, part in parts.items()}
        refusals, warnings = compare(self.request, found, root=await self._known_root())
        refuse(refusals)
        for text in warnings:
            self.work.progress.warn(f"Check: {text}")
        version = wanted_version(self.request, found, self._name)
        mesh = self._away(_SOMEWHERE, None) if self._own.is_remote else self._mesh("")
        plan = await self.own.installer.check(self._versioned(version), mesh)
        self._note(version=plan.version)

    async def _known_root(self) -> str:
        """Fingerprint of the root that certificates are to have; "" for one that is to be made."""
        if self.request.root is not None:
            return self.request.root.fingerprint
        if self.request.options.trust.root == "existing":
            return ""
        record = await self.own.roots.known(self.request.options.mesh_id, identity=self._identity)
        return fingerprint(record.certificate) if record is not None else ""

    # --- trust and control plane ----------------------------------------------------------------

    async def _trust(self) -> None:
        """Gives istiod an intermediate of the mesh's root, unless it has one that will do."""
        await self._namespace()
        known = self.request.known_as(self._name)
        self._note(
            meshID=self.request.options.mesh_id,
            clusterName=known.called,
            network=known.network or "",
            trustDomain=self.request.options.trust_domain,
        )
        if self._own.is_remote:
            return
        secret = await self._secret(SECRET)
        held = standing(data_of(secret)) if secret is not None else None
        if self.request.options.trust.root == "existing":
            if held is None:
                raise RootsDiffer(f"cluster {self._name} has no usable Secret `{SECRET}`")
            self._note(root=held.root, authority=held.intermediate)
            return
        root = await self._root()
        is_good = held is not None and held.root == root.fingerprint and held.is_fresh
        if held is None or not is_good or self.request.rotates("intermediates"):
            if held is not None and held.root != root.fingerprint:
                raise RootsDiffer(f"cluster {self._name} has `{SECRET}` of another root")
            files = await asyncio.to_thread(
                make_intermediate, root, cluster=self._own.called, namespace=self._place
            )
            with _masked(files["ca-key.pem"]):
                await self._apply(cacerts(self._place, name=SECRET, files=files))
            held = standing(files)
            self.work.progress.note(
                f"Cluster {self._name} signs with an intermediate of its own",
                f"Its root is {root.fingerprint[:16]}.",
            )
        if held is not None:
            self._note(root=held.root, authority=held.intermediate)

    async def _root(self) -> Root:
        if self.request.root is not None:
            return self.request.root
        return await self.own.roots.root(self.request.options.mesh_id, identity=self._identity)

    async def _namespace(self) -> None:
        """The mesh's namespace, with the label that tells its network."""
        made = await missing_namespace(self.work, self._mesh(""))
        if made is not None:
            await self.work.engine.apply_wave(Wave.FOUNDATIONS, [made], take_over=True)
            return
        if self._own.network is not None:
            await self._label_network(self._own.network)

    async def _label_network(self, network: str | None) -> None:
        """Sets the namespace's network; None takes the label away."""
        ref = Ref("v1", "Namespace", "", self._place)
        live = await self.work.cluster.get(ref)
        if live is None or labels_of(live).get(NETWORK) == network:
            return
        labels = {NETWORK: network}

        async def write() -> KubeObject:
            return await self.work.cluster.merge(ref, {"metadata": {"labels": labels}})

        self.work.fence.check()
        await self.work.engine.ledger.relabel(ref, labels, write)

    async def _plane(self) -> None:
        """Installs Istio as the mesh knows it, with the gateway for other networks where there are
        several."""
        if self._own.is_remote:
            return
        work = self._versioned(self.kept.found.get("version", ""))
        mesh = self._mesh(self.kept.found.get("authority", ""))
        await self.own.installer.install(work, mesh)
        if self.request.crossing(self._name):
            await self._expose(_EXPOSED)
        if self.request.serves(self._name):
            await self._expose(_EXPOSED_ISTIOD)
            self._note(discovery=self._own.discovery or await self._address(GATEWAY))

    async def _expose(self, sample: str) -> None:
        """Lets requests in from other networks, as Istio's own recipe has it."""
        objects = await self.own.samples.distributed(self.kept.found["version"], sample)
        for obj in objects:
            obj["metadata"]["namespace"] = self._place
        planned = [PlannedObject.of(obj) for obj in objects]
        await self.work.engine.apply_wave(Wave.CUSTOM_RESOURCES, planned, take_over=True)

    async def _address(self, service: str) -> str:
        """Where a Service is reached, once a load balancer has given it an address."""
        ref = Ref("v1", "Service", self._place, service)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.request.mesh.readiness_timeout.total_seconds()
        while True:
            self.work.fence.check()
            status = (await self.work.cluster.get(ref) or {}).get("status") or {}
            for one in (status.get("loadBalancer") or {}).get("ingress") or []:
                if address := one.get("ip") or one.get("hostname"):
                    return str(address)
            if loop.time() > deadline:
                raise NotReadyInTime(
                    f"{ref} has no address",
                    cause="no load balancer gives it one, and remote clusters have to reach it",
                    remedy="name an address that leads there: `discovery` of the cluster",
                    subject=str(ref),
                )
            await asyncio.sleep(_LOOK_EVERY_S)

    # --- remote clusters ------------------------------------------------------------------------

    async def _remote(self) -> None:
        """Has a remote cluster's workloads injected and configured by its primary."""
        if not self._own.is_remote:
            return
        primary = self.request.options.primary_of(self._own)
        told = (await self._parts())[primary.name].found.get("discovery", "")
        self._note(discovery=told)
        await self._annotate(primary.called)
        # A gateway that is there stays: it comes when the primary has read this cluster.
        await self._install_away(told, None)

    async def _cross(self) -> None:
        """Gives a remote cluster its gateway, whose pod the primary injects."""
        if not self._own.is_remote:
            return
        network = self.request.crossing(self._name)
        await self._install_away(self.kept.found.get("discovery", ""), network)
        if network:
            await self._label_network(network)

    async def _install_away(self, address: str, crossing: str | None) -> None:
        work = self._versioned(self.kept.found.get("version", ""))
        await self.own.installer.install(work, self._away(address, crossing))

    def _away(self, address: str, crossing: str | None) -> MeshRequest:
        """The install of a remote cluster."""
        return replace(
            self.request.mesh,
            profile="remote",
            overlay=self.request.remote_overlay(self._name, address=address),
            namespace=self._place,
            namespace_given=True,
            crossing=crossing,
            identity_judged=True,
        )

    def _leaving(self) -> MeshRequest:
        """The removal of a remote cluster's part of the mesh."""
        return replace(self._away("", ""), revision_given=True)

    async def _annotate(self, primary: str | None) -> None:
        """Says whose control plane manages the mesh's namespace; None takes that away."""
        ref = Ref("v1", "Namespace", "", self._place)
        live = await self.work.cluster.get(ref)
        if live is None or annotations_of(live).get(_MANAGED_BY) == primary:
            return
        self.work.fence.check()
        await self.work.cluster.merge(ref, {"metadata": {"annotations": {_MANAGED_BY: primary}}})

    def _mesh(self, authority: str) -> MeshRequest:
        """The install of this cluster."""
        overlay = _noted(self.request.overlay(self._name), authority)
        return replace(
            self.request.mesh,
            overlay=overlay,
            namespace=self._place,
            namespace_given=True,
            revision=self.kept.found.get("revision", self.request.mesh.revision),
            revision_given=True,
            crossing=self.request.crossing(self._name),
            identity_judged=True,
        )

    # --- remote secrets -------------------------------------------------------------------------

    async def _account(self) -> None:
        """Makes what the others read this cluster by, and hands it to them, sealed."""
        if not self.request.readers(self._name):
            return
        account = Ref("v1", "ServiceAccount", self._place, self.account)
        if await self.work.cluster.get(account) is None:
            raise ObjectNotFound(
                f"{account} is not there",
                cause="Istio's charts make it, and this install has left that out",
                remedy="leave `base` and `pilot` in the IstioOperator",
            )
        name = await self._token_name()
        token = await self._token(name)
        with _masked(token.text):
            secret = remote_secret(
                self._own.called,
                namespace=self._place,
                server=self.kept.found["server"],
                tls_server_name=""
                if self._own.server
                else self.work.cluster.client.config.tls_server_name,
                token=token,
                is_config=self.request.options.is_external,
            )
            self._note(token=name)
            self.kept = self.kept.model_copy(update={"handed": self.own.store.sealed([secret])})

    async def _token_name(self) -> str:
        """The Secret that holds the token; a rotation's is another one than before."""
        if self.request.rotates("remoteSecrets"):
            return f"{self._usual}-{hash_token(self.kept.rollout.encode(), length=10)}"
        there = sorted(_name(secret) for secret in await self._tokens())
        return self._usual if self._usual in there or not there else there[0]

    @property
    def _usual(self) -> str:
        return token_name(self.account)

    async def _tokens(self) -> list[KubeObject]:
        """The Secrets with a token of the account."""
        resource = await self.work.cluster.resources.find(*_SECRETS)
        listed = await self.work.cluster.client.get(
            resource.collection(self._place),
            query={"fieldSelector": "type=kubernetes.io/service-account-token"},
            subject=f"tokens in namespace {self._place}",
        )
        items = listed.get("items") or []
        return [secret for secret in items if is_of_account(secret, self.account)]

    async def _token(self, name: str) -> Token:
        """The token, once Kubernetes has written it."""
        secret = await self._secret(name)
        if secret is None or not is_of_account(secret, self.account):
            await self._apply(token_secret(self._place, name=name, account=self.account))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _TOKEN_WITHIN_S
        while True:
            self.work.fence.check()
            secret = await self._secret(name)
            token = token_in(secret) if secret is not None else None
            if token is not None:
                return token
            if loop.time() > deadline:
                raise NotReadyInTime(
                    f"Secret {self._place}/{name} has got no token",
                    cause="the cluster's controller manager writes it, and does not",
                )
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _link(self) -> None:
        """Writes the other clusters' remote secrets, where they are missing or others."""
        parts = await self._parts()
        written, others = [], self.request.read_by(self._name)
        if not others:
            return
        for other in others:
            if other.name not in parts or not parts[other.name].handed:
                raise ClustersDiffer(
                    f"cluster {other.name} has handed over nothing",
                    cause="another worker has ended its part meanwhile",
                    remedy="send the operation again",
                )
            [secret] = self.own.store.opened(parts[other.name].handed)
            with _masked(*data_of(secret).values()):
                live = await self._secret(_name(secret))
                if live is not None and data_of(live) == data_of(secret):
                    continue
                await self._apply(secret)
                written.append(other.called)
        self.work.progress.note(
            f"Other clusters that {self._name} reads: {len(others)}",
            f"Written: {', '.join(written) or 'nothing, all was there'}.",
        )

    async def _check(self) -> None:
        """Asks istiod whether it has read the other clusters; where none can be asked, it is
        told."""
        self.kept = self.kept.model_copy(update={"handed": ""})
        wanted = {other.called for other in self.request.read_by(self._name)}
        if not wanted:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.request.mesh.readiness_timeout.total_seconds()
        while True:
            self.work.fence.check()
            try:
                states = await self._states()
            except ClusterError as error:
                self.work.progress.warn(
                    f"Nobody could ask istiod of {self._name} whether it sees the other clusters",
                    f"{error.summary}. `istioctl remote-clusters` tells.",
                )
                return
            late = {name: states.get(name, "unknown") for name in wanted}
            late = {name: state for name, state in late.items() if state != "synced"}
            if not late:
                self._note(seen=", ".join(sorted(wanted)))
                return
            if loop.time() > deadline:
                told = ", ".join(f"{name} ({state})" for name, state in sorted(late.items()))
                raise ClusterOutOfSight(f"istiod of cluster {self._name} has not read {told}")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _states(self) -> dict[str, str]:
        """How an istiod stands with each cluster. Raises a `ClusterError`."""
        pods = await self.work.cluster.select(
            [("", "Pod")],
            selector=f"app=istiod,{istio.REVISION}={self.kept.found.get('revision', '')}",
            namespace=self._place,
            fields="status.phase=Running",
        )
        living = [pod for pod in pods if not pod.obj["metadata"].get("deletionTimestamp")]
        if not living:
            raise ObjectNotFound("no pod of istiod runs")
        page = await page_of(
            self.work.cluster.client,
            namespace=self._place,
            pod=living[0].ref.name,
            port=_DEBUG_PORT,
            path="/debug/clusterz",
            most_bytes=_MOST_BYTES,
            within=self.own.store.bucket.within,
        )
        try:
            told = read_json(page)
        except ValueError:
            told = None
        rows = told if isinstance(told, list) else []
        return {
            str(row.get("id")): str(row.get("syncStatus")) for row in rows if isinstance(row, dict)
        }

    async def _retire(self) -> None:
        """Withdraws tokens that a rotation has replaced: those that Meshbus or istioctl made."""
        if self.request.rotates("remoteSecrets"):
            await self._withdraw(keeping=self.kept.found.get("token", ""))

    async def _withdraw(self, *, keeping: str = "") -> None:
        old = [
            secret
            for secret in await self._tokens()
            if _name(secret) != keeping and (is_ours(secret) or _name(secret) == self._usual)
        ]
        await self._delete([_ref(self._place, _name(secret)) for secret in old])

    # --- leaving --------------------------------------------------------------------------------

    async def _unlink(self) -> None:
        """Removes the secrets by which those that stay and those that leave read each other."""
        leaving = {one.name for one in self.request.leavers}
        parted = [other for other in self._others if self._name in leaving or other.name in leaving]
        await self._delete([_ref(self._place, remote_name(other.called)) for other in parted])

    async def _leave(self) -> None:
        """Withdraws the leaving cluster's token, and removes its gateway for other networks."""
        if self._own not in self.request.leavers:
            return
        await self._require_removable()
        await self._withdraw()
        if self._own.is_remote:
            # What is left of it would send each new pod to a control plane that knows it no more.
            await uninstall(self.work, self._leaving())
            await self._annotate(None)
        inventory = await take_inventory(self.work.cluster)
        exposed = [
            Ref("networking.istio.io/v1", kind, self._place, name) for kind, name in _EXPOSING
        ]
        crossing = [
            found.ref
            for found in inventory.objects.values()
            if found.labels.get("app") == GATEWAY
            and found.ref.namespace == self._place
            and not found.obj["metadata"].get("ownerReferences")
        ]
        await self.work.engine.delete_all(exposed)
        removed = await self.work.engine.delete_all(crossing)
        await self._label_network(None)
        await self._purge()
        self._tell_left(f"Removed with its gateway: {listing(removed) or 'nothing'}.")

    async def _purge(self) -> None:
        """Removes the cluster's authority, where that was asked for and we have made it."""
        if self.request.mesh.purge:
            secret = await self._secret(SECRET)
            if secret is not None and is_ours(secret):
                await self._delete([_ref(self._place, SECRET)])

    def _tell_left(self, details: str) -> None:
        self._note(left="yes")
        self.work.progress.note(f"Cluster {self._name} has left {self.request.title}", details)

    # --- parts of steps -------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        """What people call the cluster."""
        return self.kept.name

    @property
    def _own(self) -> ClusterOptions:
        return self.request.cluster(self._name)

    @property
    def _others(self) -> Sequence[ClusterOptions]:
        return self.request.others(self._name)

    @property
    def _place(self) -> str:
        """The mesh's namespace."""
        return self.kept.found.get("namespace") or self.request.mesh.namespace

    @property
    def _identity(self) -> str:
        return asker(self.work.command.grant)

    def _versioned(self, version: str) -> Work:
        command = self.work.command.model_copy(update={"version": version})
        return replace(self.work, command=command)

    def _note(self, **found: str) -> None:
        """Adds to what the part keeps, when the step is answered."""
        self.kept = self.kept.model_copy(update={"found": {**self.kept.found, **found}})

    async def _parts(self) -> dict[str, PartRecord]:
        """The parts of all clusters that were looked at, by the clusters' names."""
        stored = await asyncio.gather(
            *(self.own.store.part(self.record.rollout, cluster) for cluster in self.record.parts)
        )
        return {one[0].name: one[0] for one in stored if one is not None and one[0].found}

    async def _secret(self, name: str) -> KubeObject | None:
        return await self.work.cluster.get(_ref(self._place, name))

    async def _apply(self, secret: KubeObject) -> None:
        """Writes a Secret of which no record is kept: it is another cluster's key, or the mesh's,
        and whoever lost one makes a new one."""
        self.work.fence.check()
        body = orjson.dumps(secret)
        await self.work.engine.applier.apply(Ref.of(secret), body, take_over=True)

    async def _delete(self, refs: Sequence[Ref]) -> None:
        for ref in refs:
            self.work.fence.check()
            if await self.work.engine.applier.delete(ref):
                self.work.progress.note(f"Removed {ref}")


class _Hosting(_Joining):
    """The same where one cluster, the primary, runs the control plane of the other: first the way
    to it, then what points there, and istiod when it has the key of the cluster that it serves."""

    account = CONTROLLER
    titles: Mapping[RolloutStep, str] = {
        **_Joining.titles,
        RolloutStep.PLANE: "the address of its external control plane",
        RolloutStep.ACCOUNT: "the account of its external control plane",
        RolloutStep.LINK: "the secret of the cluster that it serves",
        RolloutStep.CROSS: "the external control plane",
        RolloutStep.CHECK: "whether the control plane has read its cluster",
        RolloutStep.UNLINK: "what points to the external control plane goes",
    }

    async def _plane(self) -> None:
        """Makes istiod's address known, before there is one."""
        if self._own.is_remote:
            return
        if self._own.discovery:
            self._note(discovery=self._own.discovery)
            return
        await self.work.engine.apply_wave(
            Wave.CONFIGURATION, [PlannedObject.of(_door(self._place))], take_over=True
        )
        self._note(discovery=await self._address(_DOOR))

    async def _remote(self) -> None:
        if self._own.is_remote:
            primary = self.request.options.primary_of(self._own)
            told = (await self._parts())[primary.name].found.get("discovery", "")
            self._note(discovery=told)
            await self._install_away(told, "")

    async def _cross(self) -> None:
        if self._own.is_remote:
            return
        served = (await self._parts())[self.request.known_as(self._name).name].found
        # It reads both at its start: another one lets it start anew.
        held = f"{self.kept.found.get('authority', '')} {served.get('token', '')}"
        work = self._versioned(self.kept.found.get("version", ""))
        await self.own.installer.install(work, self._mesh(hash_token(held.encode(), length=32)))

    def _mesh(self, authority: str) -> MeshRequest:
        if self._own.is_remote:
            return super()._mesh(authority)
        address = self.kept.found.get("discovery") or self._own.discovery or _SOMEWHERE
        overlay = self.request.external_overlay(self._name, address=address, namespace=self._place)
        return replace(super()._mesh(""), profile="empty", overlay=_noted(overlay, authority))

    async def _unlink(self) -> None:
        """Removes what a served cluster has of the mesh, while its control plane still stands."""
        if self._own.is_remote:
            # What is left of it would send each new pod to a control plane that is gone.
            revision = istio.DEFAULT_REVISION
            left = await check_last(self.work.cluster, [revision])
            left.settle(force=self.request.mesh.force)
            await self._require_removable()
            await self._withdraw()
            await uninstall(self.work, self._leaving())

    async def _leave(self) -> None:
        if not self._own.is_remote:
            await self._delete([_ref(self._place, CONFIG)])
            await self._purge()
            door = Ref("v1", "Service", self._place, _DOOR)
            await self.work.engine.delete_all([door])
            await uninstall(self.work, self._mesh(""))
        await self._label_network(None)
        self._tell_left("Its control plane has gone, or what pointed there.")


def _door(namespace: str) -> KubeObject:
    """The Service by which other clusters reach an external istiod: its TLS goes through."""
    ports = {"tls-xds": 15012, "tls-webhook": 15017}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": _DOOR, "namespace": namespace},
        "spec": {
            "type": "LoadBalancer",
            "selector": {"app": "istiod", istio.REVISION: istio.DEFAULT_REVISION},
            "ports": [
                {"name": name, "port": port, "targetPort": port} for name, port in ports.items()
            ],
        },
    }


def _noted(overlay: Mapping[str, Any], authority: str) -> dict[str, Any]:
    """The overlay, with an istiod that starts anew for another authority."""
    if not authority:
        return dict(overlay)
    values = dict(overlay.get("values") or {})
    pilot = dict(values.get("pilot") or {})
    notes = dict(pilot.get("podAnnotations") or {})
    pilot["podAnnotations"] = {**notes, _AUTHORITY: authority[:32]}
    return {**overlay, "values": {**values, "pilot": pilot}}


def _ref(namespace: str, name: str) -> Ref:
    return Ref("v1", "Secret", namespace, name)


def _name(secret: KubeObject) -> str:
    return str(secret["metadata"]["name"])


@contextmanager
def _masked(*values: str) -> Iterator[None]:
    """Keeps values out of all that is told while they are at hand."""
    keys = [value for value in values if "-----BEGIN" in value]
    lines = [line for key in keys for line in key.splitlines() if "-----" not in line]
    with redaction.registered([*values, *lines]):
        yield
