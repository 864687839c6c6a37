"""Registers the cluster that Meshbus runs in, by ServiceAccounts of its own.

Lifecycle registers what has come with an operation; this one comes with nobody. The rule is the
same all the same (docs/decisions/0029): what is registered has been accepted by the cluster first.
"""

from __future__ import annotations

import hashlib

from services.chassis.bus.connection import Bus
from services.chassis.bus.credentials import Sealer
from services.chassis.bus.records import Bucket, Records
from services.chassis.kube.client import KubeClient
from services.chassis.kube.kubeconfigs import Kubeconfig, parse_kubeconfig
from services.chassis.messages import ClusterRecord

_PROOF = "/api/v1/namespaces/kube-system"
"""What a made-up token is not shown, and both accounts may read."""


async def register(bus: Bus, *, writing: str, reading: str, identity: str) -> Kubeconfig:
    """Registers the cluster of two kubeconfigs: lifecycle works by the one, topology watches by
    the other, which may only read. Safe to repeat; raises the cluster's errors."""
    for text in (writing, reading):
        async with KubeClient(parse_kubeconfig(text)) as client:
            await client.get(_PROOF, subject="Namespace kube-system")
    config = parse_kubeconfig(writing)
    sealer = Sealer(Bucket(bus, "credentials"))
    # The credentials first: whoever sees the registration finds them.
    await sealer.register(config.cluster, writing, watching=reading)
    record = ClusterRecord(
        cluster=config.cluster,
        name=config.context,
        server=config.server,
        credential=hashlib.sha256(writing.encode()).hexdigest(),
        identity=identity,
        sealed_to=sealer.sealed_to,
        has_reader=True,
    )
    await Records(Bucket(bus, "clusters"), ClusterRecord).put(config.cluster, record)
    return config
