"""`python -m deploy.local`: starts Meshbus, says what is wrong with it, lets it into a cluster."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from deploy.local import asking, kubeconfigs, launching
from deploy.local.addresses import Addresses
from deploy.local.doctor import checks
from deploy.local.doctor.examining import Patient, examine
from deploy.local.processes import LaunchError
from deploy.nats.keys import write_private
from deploy.rights import Tier


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status is 0 when what was asked for is so."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "doctor":
            return _doctor(options)
        if options.command == "kubeconfig":
            return _kubeconfig(options)
        if options.command == "apply":
            return _apply(options)
        return launching.up(options.folder, clusters=options.cluster)
    except LaunchError as error:
        print(f"meshbus: {error}", file=sys.stderr)
        return 1


def _doctor(options: argparse.Namespace) -> int:
    patient = Patient(
        folder=options.folder.resolve(),
        nats=options.nats,
        nkey=options.nkey,
        gateway=options.gateway,
        prometheus=options.prometheus,
        meshery=options.meshery,
    )
    found = asyncio.run(examine(patient))
    print(checks.as_json(found) if options.json else checks.as_lines(found))
    return checks.status_of(found)


def _kubeconfig(options: argparse.Namespace) -> int:
    """The kubeconfig on the standard output, all else on the other one."""
    kubectl = kubeconfigs.Kubectl.of(options.context, kubeconfig=options.kubeconfig)
    if options.remove:
        print(kubeconfigs.remove(kubectl), end="", file=sys.stderr)
        return 0
    granted = kubeconfigs.grant(
        kubectl,
        context=options.context,
        tier=options.tier,
        ttl=options.ttl,
        proxies=options.proxies,
    )
    if options.out:
        write_private(options.out, granted.text)
    else:
        print(granted.text, end="")
    print(
        f"account {granted.account} with the rights of tier {options.tier} "
        f"(docs/reference/rbac.md); its token counts until {granted.expires:%Y-%m-%d %H:%M} UTC: "
        "the same command renews it, REMOVE=1 takes all such accounts away",
        file=sys.stderr,
    )
    return 0


def _apply(options: argparse.Namespace) -> int:
    """One operation on clusters, by the gateway that runs in the folder."""
    folder = options.folder.resolve()
    addresses = Addresses.read(folder)
    if addresses is None:
        raise LaunchError(f"Meshbus does not run from {folder}: `make up` starts it")
    launch = launching.Launch.of(folder, clusters=options.cluster, environment=os.environ)
    wanted = asking.Wanted(
        operation=options.operation,
        clusters=launch.clusters,
        version=options.version,
        namespace=options.namespace,
        body=_text(options.body) if options.body else "",
        is_deletion=options.delete,
    )
    # That NATS goes and comes back is told in other words, between the events.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    one = asking.Asking(
        gateway=addresses.gateway,
        operator=launch.running_at(addresses).settings("operator"),
        say=lambda text: print(text, flush=True),
    )
    try:
        return 0 if asyncio.run(one.run(wanted)) else 1
    except KeyboardInterrupt:
        print("not followed any more; the operation goes on", file=sys.stderr)
        return 130


def _text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise LaunchError(f"{file} cannot be read: {error}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="NATS and the five services, until Ctrl-C")
    up.add_argument(
        "--cluster",
        action="append",
        default=[],
        metavar="KUBECONFIG[:CONTEXT]",
        help="register this cluster; may be given several times",
    )
    up.add_argument(
        "--folder", type=Path, default=launching.FOLDER, help="keys, streams and logs: %(default)s"
    )
    doctor = commands.add_parser(
        "doctor", help="what is wrong and what to do; exit status 1 when something does not work"
    )
    doctor.add_argument(
        "--folder", type=Path, default=launching.FOLDER, help="of `up`: %(default)s"
    )
    doctor.add_argument("--nats", default="", metavar="URL", help="another installation's")
    doctor.add_argument("--nkey", type=Path, metavar="FILE", help="its operator's seed file")
    doctor.add_argument("--gateway", default="", metavar="HOST:PORT", help="its gRPC")
    doctor.add_argument("--prometheus", default="", metavar="URL")
    doctor.add_argument(
        "--meshery", default=os.environ.get("MESHBUS_GATEWAY_MESHERY", ""), metavar="URL"
    )
    doctor.add_argument("--json", action="store_true", help="for programs")
    applying = commands.add_parser(
        "apply", help="one operation, as Meshery would send it, and its events up to the end"
    )
    applying.add_argument(
        "operation", help="its name, such as istio (docs/reference/operations.md)"
    )
    applying.add_argument(
        "--cluster", action="append", required=True, metavar="KUBECONFIG[:CONTEXT]"
    )
    applying.add_argument("--version", default="", help="of Istio; default: the newest at hand")
    applying.add_argument("--namespace", default="")
    applying.add_argument("--body", type=Path, metavar="FILE", help="YAML; - is standard input")
    applying.add_argument("--delete", action="store_true", help="take it away again")
    applying.add_argument(
        "--folder", type=Path, default=launching.FOLDER, help="of `up`: %(default)s"
    )
    granting = commands.add_parser(
        "kubeconfig", help="an account with least rights in a cluster, as a kubeconfig with a token"
    )
    granting.add_argument("--context", required=True, help="of your kubeconfig")
    granting.add_argument("--kubeconfig", default="", help="default: as kubectl finds it")
    granting.add_argument(
        "--tier",
        type=Tier,
        choices=list(Tier),
        default=Tier.FULL,
        help="read: watch alone; manifests: applications and a mesh's configuration; "
        "full: Istio itself (default)",
    )
    granting.add_argument("--ttl", default="24h", help="of the token; the API server may cut it")
    granting.add_argument(
        "--proxies",
        default="",
        metavar="NAMESPACE",
        help="where istiod is: the account may forward its ports, to see how proxies stand",
    )
    granting.add_argument("--out", type=Path, help="write it there, readable by you alone")
    granting.add_argument("--remove", action="store_true", help="take all such accounts away")
    return parser


if __name__ == "__main__":
    sys.exit(main())
