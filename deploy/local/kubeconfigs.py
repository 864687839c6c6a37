"""`make kubeconfig`: an account of Meshbus' own in a cluster, with the least rights and a token.

Kubeconfigs of hosted clusters run a program for each token, and Meshbus runs none. This asks the
person's own kubectl, which may, for a ServiceAccount, its ClusterRole and a token with an end. Done
once more it renews the token; removed, tokens count no more at once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import yaml

from deploy.local.processes import LaunchError
from deploy.rights import Tier, surveying_rules, tier_rules
from services.chassis.errors import MeshbusError, shortened
from services.chassis.kube.kubeconfigs import OWN_EXTENSIONS, parse_kubeconfig

NAMESPACE = "meshbus-access"
"""Of its own: no installation of Meshbus lives there, so it can go without asking."""
_MANAGER = "meshbus-kubeconfig"
_LABELS = {"app.kubernetes.io/managed-by": _MANAGER}
_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Kubectl:
    """The person's kubectl, on one context of their kubeconfig."""

    program: str
    options: Sequence[str]

    @classmethod
    def of(cls, context: str, *, kubeconfig: str = "") -> Kubectl:
        """The one on PATH, or that of `KUBECTL`; raises `LaunchError` where there is none."""
        named = os.environ.get("KUBECTL", "kubectl")
        program = shutil.which(named)
        if program is None:
            raise LaunchError(f"there is no program {named}: install kubectl, or set KUBECTL=PATH")
        options = [f"--context={context}"]
        if kubeconfig:
            options.append(f"--kubeconfig={kubeconfig}")
        return cls(program, options)

    def run(self, *arguments: str, stdin: str = "") -> str:
        """What it prints; raises `LaunchError` with its words."""
        command = [self.program, *self.options, *arguments]
        try:
            done = subprocess.run(
                command, input=stdin, capture_output=True, text=True, timeout=_WITHIN_S
            )
        except subprocess.TimeoutExpired:
            raise LaunchError(
                f"kubectl {arguments[0]} took longer than {_WITHIN_S:g} s: is the cluster reached?"
            ) from None
        if done.returncode != 0:
            raise LaunchError(
                f"kubectl {' '.join(arguments[:2])} failed: {shortened(done.stderr)}. The user of "
                "this context needs the rights that it is to give away: an administrator's"
            )
        return done.stdout


@dataclass(frozen=True, slots=True)
class Granted:
    """A kubeconfig that Meshbus takes, and until when."""

    text: str
    expires: datetime
    account: str

    def __repr__(self) -> str:
        return f"Granted({self.account}, {self.expires:%Y-%m-%d %H:%M})"


def grant(kubectl: Kubectl, *, context: str, tier: Tier, ttl: str, proxies: str = "") -> Granted:
    """Makes or renews the account of a tier; `ttl` as kubectl takes it, such as `24h`. `proxies` is
    the namespace of an istiod that it may ask for its proxies."""
    cluster = _cluster(kubectl)
    account = f"meshbus-{tier}"
    manifest = "---\n".join(
        yaml.safe_dump(json.loads(json.dumps(o))) for o in _objects(tier, proxies)
    )
    kubectl.run(
        *("apply", "--server-side", "--force-conflicts", f"--field-manager={_MANAGER}"),
        *("--filename=-",),
        stdin=manifest,
    )
    answer = json.loads(
        kubectl.run(
            *("create", "token", account, f"--namespace={NAMESPACE}"),
            *(f"--duration={ttl}", "--output=json"),
        )
    )["status"]
    text = _kubeconfig(context, cluster=cluster, account=account, token=answer["token"])
    try:
        parse_kubeconfig(text)
    except MeshbusError as error:
        raise LaunchError(f"Meshbus would not take this context: {error}") from None
    expires = datetime.fromisoformat(answer["expirationTimestamp"].replace("Z", "+00:00"))
    return Granted(text, expires.astimezone(timezone.utc), account)


def remove(kubectl: Kubectl) -> str:
    """Takes all accounts, roles and bindings away that were made here; kubectl's words."""
    selector = ",".join(f"{name}={value}" for name, value in _LABELS.items())
    told = ""
    for kinds, where in (
        ("clusterrolebindings,clusterroles,namespaces", ()),
        ("rolebindings,roles", ("--all-namespaces",)),
    ):
        told += kubectl.run("delete", kinds, f"--selector={selector}", "--ignore-not-found", *where)
    return told


def _objects(tier: Tier, proxies: str) -> list[dict[str, Any]]:
    name = f"meshbus-{tier}"
    rbac = "rbac.authorization.k8s.io"
    labelled = {"labels": _LABELS}
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}]
    surveying = {"name": f"{name}-proxies", "namespace": proxies, **labelled}
    of_proxies: list[dict[str, Any]] = [
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "Role",
            "metadata": surveying,
            "rules": surveying_rules(),
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": surveying,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": surveying["name"]},
            "subjects": subjects,
        },
    ]
    return [
        *(of_proxies if proxies else ()),
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, **labelled}},
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": NAMESPACE, **labelled},
            # No pod of this account gets a token by itself.
            "automountServiceAccountToken": False,
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name, **labelled},
            "rules": tier_rules(tier),
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name, **labelled},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
            "subjects": subjects,
        },
    ]


def _cluster(kubectl: Kubectl) -> dict[str, Any]:
    """The context's cluster, with its authority in it; what Meshbus does not follow is refused."""
    view = json.loads(
        kubectl.run("config", "view", "--minify", "--flatten", "--raw", "--output=json")
    )
    cluster: dict[str, Any] = view["clusters"][0]["cluster"]
    if cluster.get("proxy-url"):
        raise LaunchError(
            "this context reaches its cluster through a proxy (proxy-url), which Meshbus does not: "
            "run Meshbus where the API server is reached itself"
        )
    known = ("server", "certificate-authority-data", "tls-server-name", "insecure-skip-tls-verify")
    kept = {name: cluster[name] for name in known if cluster.get(name)}
    # What the person says to Meshbus about the cluster.
    told = [
        extension
        for part in (cluster, view["contexts"][0]["context"])
        for extension in part.get("extensions") or ()
        if extension["name"].startswith(OWN_EXTENSIONS)
    ]
    return {**kept, "extensions": told} if told else kept


def _kubeconfig(context: str, *, cluster: Mapping[str, Any], account: str, token: str) -> str:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": context, "cluster": dict(cluster)}],
        "users": [{"name": account, "user": {"token": token}}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": account}}],
        "current-context": context,
    }
    return str(yaml.safe_dump(document, sort_keys=False))
