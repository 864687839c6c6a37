"""Remote secrets: how the istiod of one cluster reads another one.

They are what `istioctl create-remote-secret` makes: a token of the account that Istio's base chart
has for it, in a kubeconfig, in a Secret. https://istio.io/latest/docs/setup/install/multicluster
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from services.chassis.kube.objects import MANAGED_BY, MANAGER, KubeObject, annotations_of, labels_of

ACCOUNT = "istio-reader-service-account"
CONTROLLER = "istiod"
"""Account of an external control plane, which writes to its cluster too."""
CONFIG = "istio-kubeconfig"
"""The Secret by which an external istiod has another cluster for its own."""
_CONFIG_KEY = "config"
CLUSTER = "networking.istio.io/cluster"
REMOTE = "istio/multiCluster"
_OF_ACCOUNT = "kubernetes.io/service-account.name"
_TOKEN_TYPE = "kubernetes.io/service-account-token"
_OURS = {MANAGED_BY: MANAGER}


@dataclass(frozen=True, slots=True)
class Token:
    """What the account proves itself with, and whom it believes."""

    text: str = field(repr=False)
    ca: str
    """PEM."""


def token_name(account: str) -> str:
    """The Secret of an account's token, as istioctl names it; a rotated one has a suffix."""
    return f"{account}-istio-remote-secret-token"


def remote_name(cluster: str) -> str:
    return f"istio-remote-secret-{cluster}"


def token_secret(namespace: str, *, name: str, account: str = ACCOUNT) -> KubeObject:
    """The Secret into which Kubernetes writes a token that does not expire."""
    metadata = {
        "name": name,
        "namespace": namespace,
        "annotations": {_OF_ACCOUNT: account},
        "labels": _OURS,
    }
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": _TOKEN_TYPE}


def is_of_account(secret: KubeObject, account: str = ACCOUNT) -> bool:
    """Whether a Secret holds a token of the account."""
    return secret.get("type") == _TOKEN_TYPE and annotations_of(secret).get(_OF_ACCOUNT) == account


def is_ours(secret: KubeObject) -> bool:
    return labels_of(secret).get(MANAGED_BY) == MANAGER


def token_in(secret: KubeObject) -> Token | None:
    """The token; None until Kubernetes has written it."""
    files = data_of(secret)
    text, authority = files.get("token", ""), files.get("ca.crt", "")
    return Token(text, authority) if text and authority else None


def remote_secret(
    cluster: str,
    *,
    namespace: str,
    server: str,
    tls_server_name: str,
    token: Token,
    is_config: bool = False,
) -> KubeObject:
    """The Secret by which another istiod reads `cluster`, or has it for its own (`is_config`)."""
    reached = {
        "certificate-authority-data": base64.b64encode(token.ca.encode()).decode(),
        "server": server,
        **({"tls-server-name": tls_server_name} if tls_server_name else {}),
    }
    kubeconfig = {
        "apiVersion": "v1",
        "clusters": [{"cluster": reached, "name": cluster}],
        "contexts": [{"context": {"cluster": cluster, "user": cluster}, "name": cluster}],
        "current-context": cluster,
        "kind": "Config",
        "users": [{"name": cluster, "user": {"token": token.text}}],
    }
    text = yaml.dump(kubeconfig, Dumper=yaml.CSafeDumper)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": CONFIG if is_config else remote_name(cluster),
            "namespace": namespace,
            "annotations": {CLUSTER: cluster},
            "labels": {REMOTE: "true", **_OURS},
        },
        "data": {_CONFIG_KEY if is_config else cluster: base64.b64encode(text.encode()).decode()},
    }


def cacerts(namespace: str, *, name: str, files: Mapping[str, str]) -> KubeObject:
    data = {key: base64.b64encode(text.encode()).decode() for key, text in files.items()}
    metadata = {"name": name, "namespace": namespace, "labels": _OURS}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def data_of(secret: KubeObject) -> dict[str, str]:
    """A Secret's values as text; those that are none are left out."""
    found = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            found[key] = base64.b64decode(value).decode()
        except (binascii.Error, ValueError, TypeError):
            continue
    return found
