"""`python -m services.gateway.door`: a fresh token for a client, and its entry for the file."""

from __future__ import annotations

import argparse
import sys

from services.gateway.door import tokens


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.gateway.door", description=__doc__)
    parser.add_argument("identity", help="the client's name in the policy and in the audit")
    parser.add_argument("groups", nargs="*", help="groups that it is in")
    arguments = parser.parse_args()
    token = tokens.fresh()
    print(token)
    # Apart from the token: the one goes to the client, the other one into the file.
    print(tokens.entry(arguments.identity, arguments.groups, token), end="", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
