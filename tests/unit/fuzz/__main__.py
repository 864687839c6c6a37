"""`make fuzz T=yaml`: one parser under Atheris, which looks for bytes that reach new branches.

Atheris is no dependency of Meshbus: it has wheels for some versions of Python only. What it finds
is written to `crash-…`; options of libFuzzer, such as `-max_total_time=60`, are handed on.
"""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        sys.exit("Atheris is missing: .venv/bin/python -m pip install 'atheris>=3,<4'")
    # Only what reads: with every library the start alone takes minutes.
    with atheris.instrument_imports(include=["services", "yaml"]):
        targets = importlib.import_module("tests.unit.fuzz.targets")
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in targets.TARGETS:
        sys.exit(f"name one of {', '.join(targets.TARGETS)}")
    atheris.Setup([sys.argv[0], *sys.argv[2:]], lambda body: targets.run(name, body))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
