"""`python -m tests.testbed`: the bed on the command line, for `make bed` and `make bed-down`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.testbed import bed
from tests.testbed.building import BuildError
from tests.testbed.packages import PackageMissing
from tests.testbed.processes import BedError


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; the exit status is 0 when what was asked for is so."""
    options = _parser().parse_args(arguments)
    folder: Path = options.folder.resolve()
    try:
        if options.command == "up":
            bed.up(folder, clusters=options.clusters, real=options.real)
        elif options.command == "down":
            bed.down(folder)
        elif not bed.status(folder):
            return 1
    except (BedError, BuildError, PackageMissing) as error:
        print(f"bed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bed: interrupted; nothing of this start is left behind", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.testbed",
        description="Local Kubernetes clusters (real control plane, simulated or real nodes) for "
        "Meshbus.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser(
        "up",
        help="build what is missing and start the clusters",
        description="Builds what is missing (about 20 minutes the first time), then starts the "
        "clusters. They stay up until `down`. Clusters that are up already stay as they are.",
    )
    up.add_argument(
        "--clusters", type=int, default=1, metavar="N", help="how many clusters (default: 1)"
    )
    up.add_argument(
        "--real",
        action="store_true",
        help="nodes that run pods, so that Istio and its sidecars work (needs root; builds about "
        "10 minutes more the first time); simulated ones where the machine cannot",
    )
    down = commands.add_parser(
        "down",
        help="end all clusters and remove their state",
        description="Ends exactly the processes that `up` started, and removes their state.",
    )
    status = commands.add_parser(
        "status",
        help="show what runs; exit status 1 when something does not",
        description="Shows each cluster's processes, kubeconfig and logs. "
        "The exit status is 1 when no cluster is up or one is not ready.",
    )
    for command in (up, down, status):
        command.add_argument(
            "--folder",
            type=Path,
            default=bed.DEFAULT_FOLDER,
            help="where the state is kept (default: .run/bed in the checkout)",
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
