"""`python -m deploy.nats`: the NATS server's configuration and its users' keys."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from deploy.nats import keys as nkey_files
from deploy.nats.config import Server, render, variable
from deploy.nats.permissions import USERS, people
from services.chassis.policy import OPEN, Policy, PolicyMalformed, read_policy

EXAMPLE = Path(__file__).parents[1] / "chart" / "files" / "nats.conf"
"""The configuration of a server in a cluster; `make docs` writes it."""
_NAMES = [user.name for user in USERS]


def example() -> str:
    """The checked-in configuration: public keys come from the server's environment."""
    server = Server(host="0.0.0.0", monitoring_host="0.0.0.0", store="/data", cipher="chachapoly")
    return render({name: f"${variable(name)}" for name in _NAMES}, server=server)


def _make(folder: Path, server: Server, renewed: Sequence[str], policy: Policy) -> int:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for user in renewed:
        nkey_files.renew(folder, user)
    users = (*USERS, *people(policy))
    keys = nkey_files.kept_keys(folder, [user.name for user in users])
    config = folder / "nats.conf"
    public = {name: key.public for name, key in keys.items()}
    accepted = {name: nkey_files.public_keys(folder, name, key) for name, key in keys.items()}
    written = [config, *nkey_files.write_keys(folder, keys)]
    if server.cipher:
        nkey_files.kept_store_key(folder)
        written.append(folder / nkey_files.STORE_KEY_FILE)
    nkey_files.write_private(config, render(accepted, server=server, users=users))
    public_file = folder / "public.env"
    lines = "".join(f"{variable(name)}={key}\n" for name, key in public.items() if name in _NAMES)
    nkey_files.write_private(public_file, lines)
    print("\n".join(f"wrote {file}" for file in [*written, public_file]))
    sourced = f" with the variable in {nkey_files.STORE_KEY_FILE}" if server.cipher else ""
    print(
        f"start the server with `nats-server --config {config}`{sourced}, give each service its "
        ".env file,\n"
        f"and look around with `nats --nkey {nkey_files.seed_file(folder, 'operator')} "
        "--inbox-prefix _INBOX_operator micro ls`"
    )
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.nats", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser(
        "make",
        help="write a server's configuration and a key for each user into a folder; "
        "keys that are there already stay",
    )
    make.add_argument("folder", type=Path)
    make.add_argument(
        "--renew",
        choices=_NAMES,
        action="append",
        default=[],
        metavar="USER",
        help="a new key for the user; the former one counts until its USER.former.nk is deleted "
        "and the configuration made again",
    )
    for option in fields(Server):
        make.add_argument(
            f"--{option.name.replace('_', '-')}",
            type=type(option.default),
            default=option.default,
            help="default: %(default)s",
        )
    make.add_argument(
        "--policy", type=Path, help="policy file (MESHBUS_POLICY): a user for each of its people"
    )
    commands.add_parser(
        "example", help="print the configuration whose public keys come from the environment"
    )
    arguments = parser.parse_args()
    if arguments.command == "example":
        print(example(), end="")
        return 0
    server = Server(**{option.name: getattr(arguments, option.name) for option in fields(Server)})
    try:
        policy = read_policy(arguments.policy.read_bytes()) if arguments.policy else OPEN
        return _make(arguments.folder, server, arguments.renew, policy)
    except (nkey_files.KeyFileError, PolicyMalformed, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
