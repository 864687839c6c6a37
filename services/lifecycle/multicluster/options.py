"""The body of the operation `istio-multicluster`: which clusters are one mesh, and what they trust.

What Istio is like in them stands beside it, as in the body of `istio`: an IstioOperator and a
LifecycleOptions (profile, revision, force).

    apiVersion: meshbus.io/v1
    kind: MultiClusterOptions
    spec:
      meshID: shop
      clusters:
      - {name: shop-eu, network: eu}
      - {name: shop-us, network: us, server: https://k8s.us.example.com:6443}
      trust: {root: made}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from services.chassis.errors import OptionsMalformed
from services.chassis.messages import Verb
from services.chassis.operations.bodies import find_options
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.versions import Version
from services.lifecycle.mesh.requests import MeshRequest, parse_request
from services.lifecycle.multicluster.trust import Root, read_root
from services.lifecycle.rollouts.options import RolloutOptions, WaveOptions
from services.lifecycle.rollouts.records import RolloutRecord

KIND = "MultiClusterOptions"
MOST_CLUSTERS = 50
"""Each cluster reads all others: so many have 2450 remote secrets."""
EXTERNAL = "external-istiod"
"""Namespace of an external control plane, in both clusters, where none is named."""
_TRUST_DOMAIN = "cluster.local"
_MOUNTED = (
    ("config-volume", "istio", "/etc/istio/config"),
    ("inject-volume", "istio-sidecar-injector", "/var/lib/istio/inject"),
)
"""ConfigMaps that an external istiod reads as files, since its API server is another cluster's."""
_DOMAIN = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_AS_LABEL = re.compile(_LABEL)
_MOST_PEM = 64 * 1024

Text = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Rotated = Literal["remoteSecrets", "intermediates"]
Label = Annotated[str, StringConstraints(pattern=_LABEL)]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClusterOptions(_Written):
    """One cluster of the mesh."""

    name: Text
    """What people call it: the context of its kubeconfig."""
    cluster_name: Label | None = Field(default=None, alias="clusterName")
    """What Istio calls it; its name where that is a label."""
    network: Label | None = None
    """Pods of one network reach each other; without one anywhere, all do."""
    role: Literal["primary", "remote"] = "primary"
    """A remote cluster has no control plane of its own; an external one's primary has nothing
    else of the mesh."""
    primary: Text | None = None
    """Of a remote one: the name of the cluster whose control plane it has; the only primary's."""
    discovery: str = Field(default="", max_length=253, pattern=r"^[A-Za-z0-9.:-]*$")
    """Of a primary: the address at which remote clusters reach its gateway, or its external istiod;
    that of a load balancer where it is silent."""
    server: str = Field(default="", max_length=2048, pattern=r"^(https://[^\s@?#]+)?$")
    """Where the other clusters reach its API server; as its kubeconfig says where it is silent."""

    @property
    def called(self) -> str:
        return self.cluster_name or self.name

    @property
    def is_remote(self) -> bool:
        return self.role == "remote"


class TrustOptions(_Written):
    """Where the root of the mesh's certificates comes from."""

    root: Literal["made", "given", "existing"] = "made"
    """Made by Meshbus and kept sealed; given here; or in each cluster's `cacerts` already."""
    certificate: str = Field(default="", max_length=_MOST_PEM, repr=False)
    """PEM, of a given root."""
    key: str = Field(default="", max_length=_MOST_PEM, repr=False)
    """PEM of its private key, not encrypted."""

    @model_validator(mode="after")
    def _is_whole(self) -> TrustOptions:
        has_pem = bool(self.certificate), bool(self.key)
        if self.root == "given" and has_pem != (True, True):
            raise ValueError("a given root has a certificate and a key")
        if self.root != "given" and has_pem != (False, False):
            raise ValueError("certificate and key are for `root: given` alone")
        return self


class MultiClusterOptions(_Written):
    """The spec of a MultiClusterOptions document, checked."""

    mesh_id: Label = Field(alias="meshID")
    trust_domain: str = Field(default=_TRUST_DOMAIN, alias="trustDomain", pattern=_DOMAIN)
    model: Literal["multi-primary", "primary-remote", "external"] = "multi-primary"
    version: str = Field(default="", max_length=64)
    """Of Istio where a cluster has none yet; the request's own `version` says the same."""
    clusters: list[ClusterOptions] = Field(min_length=1, max_length=MOST_CLUSTERS)
    """All clusters of the mesh; each is named by the request as well."""
    trust: TrustOptions = Field(default_factory=TrustOptions)
    action: Literal["apply", "leave", "rotate"] = "apply"
    leaving: list[Text] = Field(default_factory=list, max_length=MOST_CLUSTERS)
    """Names of the clusters that leave; all, where `leave` names none."""
    rotates: list[Rotated] = Field(
        default=["remoteSecrets", "intermediates"], min_length=1, max_length=2
    )
    """What `rotate` makes anew."""

    @model_validator(mode="after")
    def _fits(self) -> MultiClusterOptions:
        for what, names in (
            ("name", [one.name for one in self.clusters]),
            ("clusterName", [one.called for one in self.clusters]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two clusters have the {what} {twice[0]}")
        for one in self.clusters:
            if not _AS_LABEL.match(one.called):
                raise ValueError(f"{one.name[:64]} is no label: give that cluster a clusterName")
        if not self.is_external and len({one.network is None for one in self.clusters}) > 1:
            raise ValueError("either all clusters have a network or none has")
        unknown = sorted(set(self.leaving) - {one.name for one in self.clusters})
        if unknown:
            raise ValueError(f"{unknown[0][:64]} is to leave and stands not among the clusters")
        if self.leaving and self.action != "leave":
            raise ValueError("leaving is for `action: leave` alone")
        self._check_roles()
        return self

    def _check_roles(self) -> None:
        primaries = [one.name for one in self.clusters if not one.is_remote]
        remotes = [one for one in self.clusters if one.is_remote]
        if self.is_external:
            self._check_external(primaries, remotes)
        elif bool(remotes) != (self.model == "primary-remote"):
            raise ValueError("remote clusters are for `model: primary-remote`, which has some")
        for one in remotes:
            if one.primary is None and len(primaries) != 1:
                raise ValueError(f"{one.name[:64]} does not say which primary it has")
            if one.primary is not None and one.primary not in primaries:
                raise ValueError(f"the primary of {one.name[:64]} is none of the primaries")
            if one.network is None:
                raise ValueError(f"{one.name[:64]} has no network, which a remote cluster needs")
            leaves = not self.leaving or one.name in self.leaving
            if self.action == "leave" and self.primary_of(one).name in self.leaving and not leaves:
                raise ValueError(f"{one.name[:64]} would stay without a control plane")

    def _check_external(self, primaries: Sequence[str], remotes: Sequence[ClusterOptions]) -> None:
        if (len(primaries), len(remotes)) != (1, 1):
            raise ValueError(
                "`model: external` has one primary, which runs the control plane, and one remote"
            )
        [host] = (one for one in self.clusters if not one.is_remote)
        if host.network is not None:
            raise ValueError(f"{host.name[:64]} runs an external control plane and has no network")
        if self.leaving and len(self.leaving) < len(self.clusters):
            raise ValueError("an external control plane and its cluster leave together")

    @property
    def is_external(self) -> bool:
        """Whether the control plane runs beside the mesh, in a cluster of its own."""
        return self.model == "external"

    def primary_of(self, remote: ClusterOptions) -> ClusterOptions:
        """The cluster whose control plane a remote one has."""
        primaries = [one for one in self.clusters if not one.is_remote]
        return next((one for one in primaries if one.name == remote.primary), primaries[0])

    @property
    def has_networks(self) -> bool:
        """Whether traffic between clusters needs gateways."""
        return len({one.network for one in self.clusters}) > 1


@dataclass(frozen=True, slots=True)
class MultiClusterRequest:
    """What was asked for: the mesh, and what Istio is like in its clusters."""

    options: MultiClusterOptions
    mesh: MeshRequest = field(default_factory=MeshRequest)
    version: str = ""
    root: Root | None = None
    """A given one."""

    @property
    def title(self) -> str:
        """What is done, for people."""
        return f"mesh {self.options.mesh_id}"

    def record(self, record: RolloutRecord) -> RolloutRecord:
        """The record with how its clusters go on; raises `OptionsMalformed` where the request names
        other clusters than the body."""
        named = [part.name for part in record.parts.values()]
        twice = sorted({name for name in named if named.count(name) > 1})
        missing = sorted({one.name for one in self.options.clusters} - set(named))
        added = sorted(set(named) - {one.name for one in self.options.clusters})
        problems = [
            *(f"two clusters of the request are called {name}" for name in twice),
            *(f"the request does not name cluster {name}" for name in missing),
            *(f"the {KIND} does not name cluster {name}" for name in added),
        ]
        if problems:
            raise OptionsMalformed(
                "; ".join(problems[:5]),
                cause=f"the clusters of the {KIND} are those of the request, by their contexts",
                remedy="name the same clusters in both",
            )
        machine = RolloutOptions(
            what="mesh-leave" if self.leaves else "mesh",
            version=self.version,
            waves=[WaveOptions()],
        )
        return record.model_copy(
            update={
                "version": self.version,
                "options": machine.model_dump(mode="json", by_alias=True),
            }
        )

    @property
    def leaves(self) -> bool:
        return self.options.action == "leave"

    @property
    def leavers(self) -> list[ClusterOptions]:
        names = self.options.leaving or [one.name for one in self.options.clusters]
        return [one for one in self.options.clusters if self.leaves and one.name in names]

    def rotates(self, what: str) -> bool:
        return self.options.action == "rotate" and what in self.options.rotates

    def cluster(self, name: str) -> ClusterOptions:
        return next(one for one in self.options.clusters if one.name == name)

    def others(self, name: str) -> list[ClusterOptions]:
        return [one for one in self.options.clusters if one.name != name]

    def crossing(self, name: str) -> str:
        """The network to which a gateway of the cluster leads; "" where it needs none."""
        if self.options.is_external:
            return ""
        is_needed = self.options.has_networks or self.serves(name)
        return (self.cluster(name).network or "") if is_needed else ""

    def serves(self, name: str) -> bool:
        """Whether remote clusters have the control plane of this one."""
        remotes = [one for one in self.options.clusters if one.is_remote]
        return any(self.options.primary_of(one).name == name for one in remotes)

    def known_as(self, name: str) -> ClusterOptions:
        """The cluster as whose control plane this one's speaks: an external one has the name and
        the network of the cluster that it serves."""
        own = self.cluster(name)
        if self.options.is_external and not own.is_remote:
            return next(one for one in self.options.clusters if one.is_remote)
        return own

    def readers(self, name: str) -> list[ClusterOptions]:
        """The clusters whose control planes read this one."""
        return [one for one in self.others(name) if not one.is_remote]

    def read_by(self, name: str) -> list[ClusterOptions]:
        """The clusters that this one's control plane reads."""
        return [] if self.cluster(name).is_remote else self.others(name)

    def overlay(self, name: str) -> dict[str, Any]:
        """The IstioOperator's spec for a cluster: that of the body, with what the mesh is known by.
        Raises `OptionsMalformed` where the body says otherwise."""
        own = self.cluster(name)
        settings: dict[tuple[str, ...], Any] = {
            ("values", "global", "meshID"): self.options.mesh_id,
            ("values", "global", "multiCluster", "clusterName"): own.called,
            ("meshConfig", "trustDomain"): self.options.trust_domain,
        }
        if own.network is not None:
            settings["values", "global", "network"] = own.network
        if self.serves(name):
            settings["values", "global", "externalIstiod"] = True
        return merged(self.mesh.overlay, settings)

    def remote_overlay(self, name: str, *, address: str) -> dict[str, Any]:
        """The same for a remote cluster, whose control plane is at `address`."""
        own = self.cluster(name)
        path = f"/inject/cluster/{own.called}/net/{own.network}"
        settings: dict[tuple[str, ...], Any] = {
            ("values", "istiodRemote", "injectionPath"): path,
            ("values", "global", "remotePilotAddress"): address,
        }
        if self.options.is_external:
            # The mesh's configuration lies here, and istiod takes its settings from here too.
            settings["values", "global", "configCluster"] = True
            settings["values", "pilot", "configMap"] = True
            if self.options.trust_domain != _TRUST_DOMAIN:
                settings["meshConfig", "trustDomain"] = self.options.trust_domain
        return merged(self.mesh.overlay, settings)

    def external_overlay(self, name: str, *, address: str, namespace: str) -> dict[str, Any]:
        """The same for the cluster that runs the control plane of another one, which reaches it at
        `address`: the IstioOperator of Istio's recipe, with an istiod whose certificate names the
        address."""
        served = self.known_as(name)
        at = f"[{address}]:15012" if ":" in address else f"{address}:15012"
        hooks = {
            "INJECTION_WEBHOOK_CONFIG_NAME": "istio-sidecar-injector",
            "VALIDATION_WEBHOOK_CONFIG_NAME": "istio-validator",
        }
        environment = {
            **{key: f"{hook}-{namespace}" for key, hook in hooks.items()},
            "EXTERNAL_ISTIOD": "true",
            "LOCAL_CLUSTER_SECRET_WATCHER": "true",
            "SHARED_MESH_CONFIG": "istio",
            "ISTIOD_CUSTOM_HOST": address,
        }
        if namespace == istio.SYSTEM_NAMESPACE:
            # The one webhook that the charts name without its namespace.
            environment["INJECTION_WEBHOOK_CONFIG_NAME"] = hooks["INJECTION_WEBHOOK_CONFIG_NAME"]
        settings: dict[tuple[str, ...], Any] = {
            ("components", "pilot", "enabled"): True,
            ("meshConfig", "rootNamespace"): namespace,
            ("meshConfig", "trustDomain"): self.options.trust_domain,
            ("meshConfig", "defaultConfig", "discoveryAddress"): at,
            ("values", "global", "caAddress"): at,
            ("values", "global", "operatorManageWebhooks"): True,
            ("values", "global", "configValidation"): False,
            ("values", "global", "meshID"): self.options.mesh_id,
            ("values", "global", "multiCluster", "clusterName"): served.called,
            ("values", "global", "network"): served.network,
            ("values", "pilot", "volumes"): [
                {"name": volume, "configMap": {"name": source}} for volume, source, _ in _MOUNTED
            ],
            ("values", "pilot", "volumeMounts"): [
                {"name": volume, "mountPath": path} for volume, _, path in _MOUNTED
            ],
            **{("values", "pilot", "env", key): value for key, value in environment.items()},
        }
        return merged(self.mesh.overlay, settings)


def merged(spec: Mapping[str, Any], settings: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """A copy of `spec` with the settings; raises `OptionsMalformed` for one that differs there."""
    made = dict(spec)
    for path, value in settings.items():
        place = made
        for step in path[:-1]:
            inner = place.get(step)
            if inner is not None and not isinstance(inner, dict):
                raise _differs(path)
            place[step] = dict(inner or {})
            place = place[step]
        if place.get(path[-1], value) != value:
            raise _differs(path)
        place[path[-1]] = value
    return made


def parse_multicluster(
    body: str, *, version: str = "", verb: Verb = Verb.APPLY
) -> MultiClusterRequest:
    """The request in `body`; `version` is the operation's own field, and a deletion is a leave of
    all. Raises `OptionsMalformed`, and what `parse_request` raises."""
    options = find_options(body, KIND, MultiClusterOptions)
    if options is None:
        raise OptionsMalformed(
            f"the body holds no {KIND}",
            cause="the clusters of a mesh have to be told what they are to each other",
            remedy="docs/how-to/multicluster.md has a body to begin with",
        )
    if verb is Verb.DELETE:
        options = options.model_copy(update={"action": "leave"})
    if len(options.clusters) < 2 and options.action == "apply":
        raise OptionsMalformed(
            f"spec.clusters of the {KIND}: a mesh of several clusters has two at least"
        )
    mesh = parse_request(body)
    if options.is_external and not mesh.namespace_given:
        mesh = replace(mesh, namespace=EXTERNAL, namespace_given=True)
    if options.model != "multi-primary" and mesh.revision != istio.DEFAULT_REVISION:
        raise OptionsMalformed(
            f"a revision of the LifecycleOptions is not for `{options.model}`",
            cause="Istio exposes the unnamed revision's istiod to remote clusters",
            remedy="leave it out",
        )
    if mesh.tags is not None:
        raise OptionsMalformed(
            "tags of the LifecycleOptions are not for this operation",
            remedy="leave them out; the operation `istio` moves them",
        )
    trust = options.trust
    if options.action == "rotate" and "intermediates" in options.rotates:
        _refuse_existing(trust)
    root = read_root(trust.certificate, trust.key) if trust.root == "given" else None
    return MultiClusterRequest(options, mesh, _agreed(options.version, version), root)


def _refuse_existing(trust: TrustOptions) -> None:
    if trust.root == "existing":
        raise OptionsMalformed(
            f"spec.rotates of the {KIND}: the root of `cacerts` has no key here",
            cause="only whoever has the root's key makes new intermediates",
            remedy="rotate [remoteSecrets] alone, or give the root",
        )


def _agreed(option: str, of_request: str) -> str:
    texts = [text for text in (option.strip(), of_request.strip()) if text not in ("", "v1.0.0")]
    named: Sequence[str] = sorted({str(Version.parse(text) or text) for text in texts})
    if len(named) > 1:
        raise OptionsMalformed(f"spec.version of the {KIND} and the request's version differ")
    return named[0] if named else ""


def _differs(path: Sequence[str]) -> OptionsMalformed:
    return OptionsMalformed(
        f"spec.{'.'.join(path)} of the IstioOperator is not what the {KIND} says",
        remedy="leave it out there",
    )
