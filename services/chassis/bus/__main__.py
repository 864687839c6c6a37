"""`python -m services.chassis.bus`: the init job of the bus and its keys."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from services.chassis.bus import streams
from services.chassis.bus.connection import connect
from services.chassis.errors import MeshbusError
from services.chassis.sealing import RECEIVERS, generate_keys
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


def _fresh_keys(receivers: Sequence[str]) -> str:
    pairs = {name: generate_keys() for name in receivers}
    listed = ",".join(f"{name}={public}" for name, (public, _) in pairs.items())
    private = "".join(
        f"# {name} alone:\nMESHBUS_SEALING_PRIVATE_KEY={secret}\n"
        for name, (_, secret) in pairs.items()
    )
    return f"# all services, the gateway as well:\nMESHBUS_SEALING_PUBLIC_KEYS={listed}\n{private}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.chassis.bus", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    apply = commands.add_parser("apply", help="create or update streams, buckets and consumers")
    apply.add_argument("--replicas", type=int, default=1, help="copies of each stream (1, 3, 5)")
    commands.add_parser("check", help="say whether everything is there")
    keys = commands.add_parser(
        "keys", help="print fresh key pairs for sealing, as environment files have them"
    )
    keys.add_argument(
        "--service",
        choices=RECEIVERS,
        action="append",
        help="only this receiver's, to change its key; may be given several times",
    )
    arguments = parser.parse_args()
    if arguments.command == "keys":
        print(_fresh_keys(arguments.service or RECEIVERS), end="")
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
