"""Write the modules and stubs of this folder's .proto files, or check that they are fresh.

    python -m proto.generate            writes them
    python -m proto.generate --check    exits 1 if they are stale, and changes nothing

The compiler is grpcio-tools' protoc, in a process of its own: importing it installs an import hook
that compiles .proto files on the fly. It runs with this folder as its only root, because the files'
names are part of the contract: reflection must show "meshops.proto", never "proto/meshops.proto".
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SOURCES = ("meshops.proto", "smp.proto")
OUTPUTS = tuple(
    source.replace(".proto", ending) for source in SOURCES for ending in ("_pb2.py", "_pb2.pyi")
)


def compile_contracts() -> dict[str, bytes]:
    """Runs protoc on the contracts; returns each file's content by its name."""
    with tempfile.TemporaryDirectory(prefix="meshbus-proto-") as folder:
        protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{FOLDER}"]
        subprocess.run(
            [*protoc, f"--python_out={folder}", f"--pyi_out={folder}", *SOURCES], check=True
        )
        return {name: Path(folder, name).read_bytes() for name in OUTPUTS}


def stale_outputs(folder: Path = FOLDER) -> list[str]:
    """The generated files in `folder` that are missing or out of date."""
    stale = []
    for name, content in compile_contracts().items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            stale.append(name)
    return stale


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the generated files; the process's exit status."""
    parser = argparse.ArgumentParser(prog="python -m proto.generate", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--check", action="store_true", help="exit 1 if a generated file is stale")
    if parser.parse_args(arguments).check:
        stale = stale_outputs()
        if stale:
            print(f"stale: {', '.join(stale)}; run python -m proto.generate", file=sys.stderr)
        return 1 if stale else 0
    for name, content in compile_contracts().items():
        (FOLDER / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
