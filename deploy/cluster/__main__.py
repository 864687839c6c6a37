"""`python -m deploy.cluster`: what the chart's Jobs and compose run, each safe to repeat."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from deploy.cluster.accounts import MOUNTED, SERVER, AccountMissing, kubeconfig_of
from deploy.cluster.keys import (
    environment_of,
    missing_keys,
    missing_server_entries,
    seed_entry,
)
from deploy.cluster.registering import register
from deploy.cluster.storing import add_entries, kept_entries
from deploy.nats.keys import write_private
from services.chassis.bus.connection import connect
from services.chassis.errors import MeshbusError
from services.chassis.kube.client import KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.settings import ChassisSettings, SettingsError, services


async def _keys(arguments: argparse.Namespace) -> None:
    namespace, labels = arguments.namespace, dict(arguments.label)
    account = kubeconfig_of(arguments.account, server=arguments.server)
    async with KubeClient(parse_kubeconfig(account)) as client:
        kept = await kept_entries(client, namespace, arguments.keys)
        made = missing_keys(kept or {})
        await add_entries(client, namespace, arguments.keys, entries=made, kept=kept, labels=labels)
        whole = {**(kept or {}), **made}
        of_server = await kept_entries(client, namespace, arguments.server_keys)
        missing = missing_server_entries(of_server or {}, whole)
        await add_entries(
            client, namespace, arguments.server_keys, entries=missing, kept=of_server, labels=labels
        )
    print(f"made {len(made) + len(missing)} entries; all others stay as they were")


async def _register(arguments: argparse.Namespace) -> None:
    settings = ChassisSettings()
    writing, reading = (
        kubeconfig_of(folder, server=arguments.server, name=arguments.name)
        for folder in (arguments.writing, arguments.reading)
    )
    bus = await connect(settings, service="admin")
    try:
        config = await register(bus, writing=writing, reading=reading, identity=arguments.identity)
        print(f"registered {config.context} as {config.cluster}")
    finally:
        await bus.close()


def _write_files(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = folder / "keys.json"
    keys, of_server = json.loads(kept.read_text()) if kept.exists() else ({}, {})
    keys |= missing_keys(keys)
    of_server |= missing_server_entries(of_server, keys)
    write_private(kept, json.dumps([keys, of_server], indent=1) + "\n")
    environments = {name: environment_of(name, keys) for name in (*services(), "admin")}
    for name, variables in {**environments, "nats": of_server}.items():
        text = "".join(f"{variable}={value}\n" for variable, value in variables.items())
        write_private(folder / f"{name}.env", text)
    write_private(folder / "operator.nk", keys[seed_entry("operator")] + "\n")
    print(f"the keys are in {folder}; those that were there are the same")


async def _files(arguments: argparse.Namespace) -> None:
    await asyncio.to_thread(_write_files, arguments.folder)


def _label(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


_COMMANDS = {"keys": _keys, "files": _files, "register": _register}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    keys = commands.add_parser("keys", help="make the Secrets with all keys, where they lack some")
    keys.add_argument("--namespace", required=True)
    keys.add_argument("--keys", required=True, help="name of the services' Secret")
    keys.add_argument("--server-keys", required=True, help="name of the NATS server's Secret")
    keys.add_argument("--label", type=_label, action="append", default=[], help="of both: NAME=V")
    keys.add_argument("--account", type=Path, default=MOUNTED, help="folder with the pod's token")
    registering = commands.add_parser(
        "register", help="register the cluster by two accounts (with the NATS user admin)"
    )
    registering.add_argument("--name", default="home", help="what people call the cluster")
    registering.add_argument("--identity", default="local", help="whose cluster it counts as")
    registering.add_argument("--writing", type=Path, required=True, help="folder of lifecycle's")
    registering.add_argument("--reading", type=Path, required=True, help="folder of topology's")
    files = commands.add_parser(
        "files", help="make all keys in a folder, with a file of variables for each container"
    )
    files.add_argument("folder", type=Path)
    for command in (keys, registering):
        command.add_argument("--server", default=SERVER, help="default: %(default)s")
    return parser


def main() -> int:
    arguments = _parser().parse_args()
    try:
        asyncio.run(_COMMANDS[arguments.command](arguments))
    except (AccountMissing, MeshbusError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
