"""Kubeconfigs from what Kubernetes mounts into a pod: a ServiceAccount's token and authority."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

MOUNTED = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its own account."""
SERVER = "https://kubernetes.default.svc"
"""The API server's address from every pod."""


class AccountMissing(Exception):
    """A folder holds no ServiceAccount's token; the message names it."""


def kubeconfig_of(folder: Path, *, server: str = SERVER, name: str = "cluster") -> str:
    """A kubeconfig with the token in `folder` (files `token` and `ca.crt`). Raises
    `AccountMissing`, as long as Kubernetes has not filled the account's Secret."""
    try:
        token = (folder / "token").read_text().strip()
        authority = base64.b64encode((folder / "ca.crt").read_bytes()).decode()
    except OSError as error:
        raise AccountMissing(f"{folder} has no ServiceAccount's token: {error.strerror}") from None
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [
            {"name": name, "cluster": {"server": server, "certificate-authority-data": authority}}
        ],
        "users": [{"name": name, "user": {"token": token}}],
    }
    return yaml.safe_dump(document, sort_keys=False)
