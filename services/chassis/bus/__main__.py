"""`python -m services.chassis.bus`: the init job of the bus and its keys."""

from __future__ import annotations

import argparse
import asyncio
import sys

from services.chassis.bus import credentials, streams
from services.chassis.bus.connection import connect
from services.chassis.errors import MeshbusError
from services.chassis.settings import ChassisSettings


async def _apply(settings: ChassisSettings, replicas: int) -> None:
    bus = await connect(settings, service="admin")
    try:
        touched = await streams.reconcile(
            bus.client,
            ack_wait=settings.ack_wait,
            lease_ttl=settings.lease_ttl,
            replicas=replicas,
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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.chassis.bus", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    apply = commands.add_parser("apply", help="create or update streams, buckets and consumers")
    apply.add_argument("--replicas", type=int, default=1, help="copies of each stream (1, 3, 5)")
    commands.add_parser("check", help="say whether everything is there")
    commands.add_parser("keys", help="print a fresh key pair for sealing kubeconfigs")
    arguments = parser.parse_args()
    if arguments.command == "keys":
        public, private = credentials.generate_keys()
        print(f"MESHBUS_SEALING_PUBLIC_KEY={public}\nMESHBUS_SEALING_PRIVATE_KEY={private}")
        return 0
    settings = ChassisSettings()
    try:
        if arguments.command == "apply":
            asyncio.run(_apply(settings, arguments.replicas))
        else:
            asyncio.run(_check(settings))
    except MeshbusError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
