"""`python -m deploy.nats`: the NATS server's configuration and its users' keys."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from itertools import chain
from pathlib import Path

from deploy.nats import keys as nkey_files
from deploy.nats.config import Leaf, Server, render, render_leaf, variable
from deploy.nats.permissions import USERS, people, regional
from services.chassis.bus.streams import Region
from services.chassis.policy import OPEN, Policy, PolicyMalformed, read_policy

EXAMPLE = Path(__file__).parents[1] / "chart" / "files" / "nats.conf"
"""The configuration of a server in a cluster; `make docs` writes it."""
_NAMES = [user.name for user in USERS]


def example() -> str:
    """The checked-in configuration: public keys come from the server's environment."""
    server = Server(host="0.0.0.0", monitoring_host="0.0.0.0", store="/data", cipher="chachapoly")
    return render({name: f"${variable(name)}" for name in _NAMES}, server=server)


def _make(
    folder: Path,
    server: Server,
    renewed: Sequence[str],
    policy: Policy,
    regions: Sequence[Region],
    leaf: Leaf,
) -> int:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for user in renewed:
        nkey_files.renew(folder, user)
    links = {
        region.name: [regional(service, region.name) for service in region.services]
        for region in regions
    }
    users = (*USERS, *people(policy), *chain.from_iterable(links.values()))
    keys = nkey_files.kept_keys(folder, [user.name for user in users])
    config = folder / "nats.conf"
    public = {name: key.public for name, key in keys.items()}
    accepted = {name: nkey_files.public_keys(folder, name, key) for name, key in keys.items()}
    written = [config, *nkey_files.write_keys(folder, keys)]
    if server.cipher:
        nkey_files.kept_store_key(folder)
        written.append(folder / nkey_files.STORE_KEY_FILE)
    nkey_files.write_private(config, render(accepted, server=server, users=users))
    for name, users_there in links.items():
        seeds = {user.name: keys[user.name].seed for user in users_there}
        written.append(folder / f"leaf-{name}.conf")
        text = render_leaf(accepted, users=users_there, seeds=seeds, leaf=leaf)
        nkey_files.write_private(written[-1], text)
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
    make.add_argument(
        "--region",
        type=Region.read,
        action="append",
        default=[],
        metavar="NAME[=SERVICE,…]",
        help="a server of its own for the workers of a region, which dials this one at its "
        "--leaf-port: its configuration is leaf-NAME.conf",
    )
    make.add_argument("--leaf-url", default="", help="where servers of regions find this one")
    make.add_argument("--leaf-ca", default="", help="file of the authority of its certificate")
    make.add_argument("--leaf-host", default="127.0.0.1", help="where those servers listen")
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
        url = arguments.leaf_url or f"nats-leaf://{server.host}:{server.leaf_port}"
        if arguments.region and not server.leaf_port:
            parser.error("--region takes --leaf-port: where servers of regions are listened to")
        leaf = Leaf(url=url, ca=arguments.leaf_ca, server=Server(host=arguments.leaf_host))
        return _make(arguments.folder, server, arguments.renew, policy, arguments.region, leaf)
    except (nkey_files.KeyFileError, PolicyMalformed, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
