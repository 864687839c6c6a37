"""`python -m services.chassis.bus`: the init job of the bus and its keys."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Sequence

from services.chassis import granting
from services.chassis.bus import envelopes, streams, subjects
from services.chassis.bus.connection import connect
from services.chassis.bus.credentials import Sealer
from services.chassis.bus.records import Bucket, Records, RevisionConflict
from services.chassis.bus.streams import Region
from services.chassis.errors import CredentialMissing, MeshbusError
from services.chassis.messages import ClusterRecord, Command
from services.chassis.sealing import RECEIVERS, generate_keys
from services.chassis.settings import ChassisSettings, SettingsError


async def _apply(settings: ChassisSettings, replicas: int, regions: Sequence[Region]) -> None:
    bus = await connect(settings, service="admin")
    try:
        touched = await streams.reconcile(
            bus.client,
            ack_wait=settings.ack_wait,
            lease_ttl=settings.lease_ttl,
            replicas=replicas,
            regions=regions,
        )
        print("\n".join(f"applied {name}" for name in touched))
    finally:
        await bus.close()


async def _check(settings: ChassisSettings) -> None:
    bus = await connect(settings, service="admin")
    try:
        await streams.verify(bus.client, lease_ttl=settings.lease_ttl)
        print("all streams and buckets are there")
    finally:
        await bus.close()


async def _watch_by(settings: ChassisSettings, cluster: str, kubeconfig: str) -> None:
    bus = await connect(settings, service="admin")
    try:
        clusters = Records(Bucket(bus, "clusters"), ClusterRecord)
        stored = await clusters.get(subjects.token(cluster))
        if stored is None:
            raise CredentialMissing(
                f"cluster {cluster[:64]} is not registered",
                remedy="run an operation on it first; `nats req mesh.gateway.clusters` lists them",
            )
        record, revision = stored
        wanted = record.model_copy(update={"has_reader": True})
        # The mark first: an operation that registers meanwhile must not put its own there.
        revision = await clusters.update(record.cluster, wanted, revision=revision)
        await Sealer(Bucket(bus, "credentials")).watch_by(record.cluster, kubeconfig)
        with contextlib.suppress(RevisionConflict):
            # Topology looks at credentials when a registration is written.
            await clusters.update(record.cluster, wanted, revision=revision)
        print(f"{record.name} is watched by this kubeconfig alone")
    finally:
        await bus.close()


def _fresh_keys(receivers: Sequence[str]) -> str:
    pairs = {name: generate_keys() for name in receivers}
    listed = ",".join(f"{name}={public}" for name, (public, _) in pairs.items())
    private = "".join(
        f"# {name} alone:\nMESHBUS_SEALING_PRIVATE_KEY={secret}\n"
        for name, (_, secret) in pairs.items()
    )
    return f"# all services, the gateway as well:\nMESHBUS_SEALING_PUBLIC_KEYS={listed}\n{private}"


def _sign(settings: ChassisSettings, text: bytes) -> int:
    key = settings.signing_key
    try:
        signer = granting.Signer.of(key.get_secret_value() if key else None)
        command = envelopes.decode(Command, text, {envelopes.CONTENT_TYPE: envelopes.JSON})
    except (MeshbusError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 1
    print(signer.signed(command, identity="operator").model_dump_json())
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.chassis.bus", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    apply = commands.add_parser("apply", help="create or update streams, buckets and consumers")
    apply.add_argument("--replicas", type=int, default=1, help="copies of each stream (1, 3, 5)")
    apply.add_argument(
        "--region",
        type=Region.read,
        action="append",
        default=[],
        metavar="NAME[=SERVICE,…]",
        help="a region whose own workers take the commands for its clusters; those that are not "
        "named are none any more",
    )
    commands.add_parser("check", help="say whether everything is there")
    keys = commands.add_parser(
        "keys", help="print fresh keys for sealing and signing, as environment files have them"
    )
    keys.add_argument(
        "--service",
        choices=RECEIVERS,
        action="append",
        help="only this receiver's, to change its key; may be given several times",
    )
    commands.add_parser(
        "sign",
        help="read a command as JSON and print it with a grant, by the key in MESHBUS_SIGNING_KEY: "
        "for commands that a service hands on, sent by hand",
    )
    watching = commands.add_parser(
        "watch-by",
        help="read a kubeconfig that may only read, and have topology watch a registered cluster "
        "by it; it leaves this machine sealed",
    )
    watching.add_argument("cluster", help="its token")
    arguments = parser.parse_args()
    if arguments.command == "keys":
        print(_fresh_keys(arguments.service or RECEIVERS), end="")
        if not arguments.service:
            checking, signing = granting.generate_signing_keys()
            print(f"# lifecycle alone:\nMESHBUS_SIGNING_PUBLIC_KEYS={checking}")
            print(f"# the gateway alone:\nMESHBUS_SIGNING_KEY={signing}")
        return 0
    settings = ChassisSettings()
    if arguments.command == "sign":
        return _sign(settings, sys.stdin.buffer.read())
    try:
        if arguments.command == "apply":
            asyncio.run(_apply(settings, arguments.replicas, arguments.region))
        elif arguments.command == "watch-by":
            asyncio.run(_watch_by(settings, arguments.cluster, sys.stdin.read()))
        else:
            asyncio.run(_check(settings))
    except (MeshbusError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 1
    except RevisionConflict:
        print("the cluster was registered anew meanwhile: try again", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
