"""Secrets of one namespace, as far as keys go: read, made, and added to; nothing is taken away."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import orjson

from services.chassis.errors import ObjectNotFound
from services.chassis.kube.client import MERGE_PATCH, KubeClient


async def kept_entries(client: KubeClient, namespace: str, name: str) -> dict[str, str] | None:
    """A Secret's entries; None where there is no such Secret."""
    try:
        secret = await client.get(f"/api/v1/namespaces/{namespace}/secrets/{name}")
    except ObjectNotFound:
        return None
    data = secret.get("data") or {}
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


async def add_entries(
    client: KubeClient,
    namespace: str,
    name: str,
    *,
    entries: Mapping[str, str],
    kept: Mapping[str, str] | None,
    labels: Mapping[str, str],
) -> None:
    """Makes the Secret of `entries`, or adds them to what it has (`kept`)."""
    if kept is not None and not entries:
        return
    path = f"/api/v1/namespaces/{namespace}/secrets"
    subject = f"Secret {name}"
    if kept is None:
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": dict(labels)},
            "stringData": dict(entries),
        }
        await client.request("POST", path, body=orjson.dumps(secret), subject=subject)
    else:
        body = orjson.dumps({"stringData": dict(entries)})
        await client.request(
            "PATCH", f"{path}/{name}", body=body, content_type=MERGE_PATCH, subject=subject
        )
