"""A base out of Debian's packages: Python with what it stands on, and no shell or package manager.

For where no registry of images is reached, and smaller than the public ones. The packages are
unpacked and not set up, so what their scripts would make is made here: the list of authorities.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.image.engines import Engine, EngineError

SUITES = {(3, 11): "bookworm", (3, 13): "trixie"}
"""The release of Debian that has a Python."""
TAG = "localhost/meshbus-base:latest"
_PACKAGES = (
    "ca-certificates",
    "libstdc++6",
    "libpython3-stdlib",
    "netbase",
    "python3-minimal",
    "tzdata",
    "zlib1g",
)
_UNWANTED = (
    "/bin/tar",
    "/usr/bin/dpkg*",
    "/usr/bin/openssl",
    "/usr/bin/perl*",
    "/usr/lib/*/gconv/*",
    "/usr/lib/python3*/ensurepip/*",
    "/usr/lib/python3*/idlelib/*",
    "/usr/lib/python3*/lib2to3/*",
    "/usr/lib/python3*/pydoc_data/*",
    "/usr/lib/python3*/turtle*",
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
    "/var/lib/dpkg/*",
)
"""No service opens any of it, and a shell's tools are of use to nobody but an intruder."""
_AUTHORITIES = (
    'find "$1/usr/share/ca-certificates/mozilla" -name "*.crt" | LC_ALL=C sort | '
    'xargs cat > "$1/etc/ssl/certs/ca-certificates.crt"'
)


def debian_base(engine: Engine, folder: Path, *, epoch: int) -> str:
    """Makes the base and gives its tag. Raises `EngineError`."""
    python = sys.version_info[:2]
    if python not in SUITES:
        raise EngineError(f"no Debian release has Python {python[0]}.{python[1]}: name a --base")
    if shutil.which("mmdebstrap") is None:
        raise EngineError("the base is made by mmdebstrap: `apt-get install mmdebstrap`")
    archive = folder / "base.tar"
    command = [
        "mmdebstrap",
        "--quiet",
        "--variant=extract",
        f"--include={','.join(_PACKAGES)}",
        f"--extract-hook=mkdir -p $1/etc/ssl/certs && sh -c '{_AUTHORITIES}' - $1",
        f"--extract-hook={_removing()}",
        f"--extract-hook={_compiling()}",
        SUITES[python],
        str(archive),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        raise EngineError(f"mmdebstrap failed: {done.stderr.strip()[-800:]}")
    engine.load(archive, tag=TAG, epoch=epoch)
    return TAG


def _removing() -> str:
    return f"cd $1 && rm -rf {' '.join(f'.{pattern}' for pattern in _UNWANTED)}"


def _compiling() -> str:
    """Python's own library as bytecode, since nothing can be written where it runs."""
    options = "-m compileall -qq --invalidation-mode=unchecked-hash"
    return f"PYTHONHASHSEED=0 {sys.executable} {options} -s $1 $1/usr/lib/python3* || true"
