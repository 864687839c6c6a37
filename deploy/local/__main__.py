"""`python -m deploy.local`: starts Meshbus, says what is wrong with it, lets it into a cluster."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.local import launching
from deploy.local.processes import LaunchError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status is 0 when what was asked for is so."""
    options = _parser().parse_args(arguments)
    try:
        return launching.up(options.folder, clusters=options.cluster)
    except LaunchError as error:
        print(f"meshbus: {error}", file=sys.stderr)
        return 1


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
    return parser


if __name__ == "__main__":
    sys.exit(main())
