"""`make audit`: asks the OSV database whether a pinned dependency has a known vulnerability.

pip-audit is run in an environment of its own and is none of our dependencies: a tool that judges
the lock has no place in it. An answer that did not come is an error as well: nothing was checked.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

TOOL = "pip-audit==2.10.1"
_LOCK = Path(__file__).parents[1] / "requirements.lock"
_UV = Path(sys.executable).parent / "uv"
_OUT_OF_REACH = 2


class AuditImpossible(Exception):
    """Nothing was checked; the message says why."""


def asked(command: list[str]) -> list[str]:
    """A line for each known vulnerability. Raises `AuditImpossible` when there is no answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AuditImpossible(f"pip-audit does not run: {error}") from None
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise AuditImpossible(f"pip-audit had no answer: {said[-1][:300]}") from None
    return [
        f"{one['name']} {one['version']}: {found['id']}, mended in "
        f"{', '.join(found['fix_versions']) or 'no version yet'}"
        for one in answer["dependencies"]
        for found in one.get("vulns", ())
    ]


def command() -> list[str]:
    return [
        *(str(_UV), "tool", "run", "--quiet", TOOL, "--requirement", str(_LOCK)),
        *("--require-hashes", "--disable-pip", "--vulnerability-service", "osv"),
        *("--format", "json", "--progress-spinner", "off"),
    ]


def main() -> int:
    try:
        found = asked(command())
    except AuditImpossible as error:
        sys.stderr.write(f"Nothing was checked: {error}\n")
        sys.stderr.write("The audit needs the package registry and https://api.osv.dev.\n")
        return _OUT_OF_REACH
    sys.stdout.writelines(f"{line}\n" for line in found)
    sys.stdout.write(f"{len(found)} known vulnerabilities in {_LOCK.name}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
