"""`python -m deploy.local`: starts Meshbus, says what is wrong with it, lets it into a cluster."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.local import kubeconfigs, launching
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
        kubectl, context=options.context, tier=options.tier, ttl=options.ttl
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
    doctor.add_argument("--meshery", default="", metavar="URL")
    doctor.add_argument("--json", action="store_true", help="for programs")
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
    granting.add_argument("--out", type=Path, help="write it there, readable by you alone")
    granting.add_argument("--remove", action="store_true", help="take all such accounts away")
    return parser


if __name__ == "__main__":
    sys.exit(main())
