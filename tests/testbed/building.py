"""Builds the bed's binaries from their Go modules into a cache outside the checkout.

A binary is built under a temporary name and renamed when the whole entry is complete, so a build
that was cut off is never taken for a finished one. A lock file makes a second build wait for the
first. Progress is printed as lines, because a first build takes about 20 minutes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.testbed import obstacles, packages
from tests.testbed.recipe import (
    DISTRIBUTIONS,
    NODE_PACKAGES,
    NODE_PROGRAMS,
    PACKAGES,
    PROGRAMS,
    Program,
)

_ALL = (*PROGRAMS, *NODE_PROGRAMS)

_REPORT_EVERY_S = 20.0


class BuildError(Exception):
    """A program of the bed could not be built; the message names it, the cause and the remedy."""


def cache_folder() -> Path:
    """Folder that all checkouts of one user share: `${XDG_CACHE_HOME:-~/.cache}/meshbus`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "meshbus"


def program_folder(name: str) -> Path:
    """Cache folder of the program called `name`; it holds the binaries and copied folders."""
    program = next(p for p in _ALL if p.name == name)
    return cache_folder() / "bin" / program.key


def binary(name: str) -> Path:
    """Path of the built binary `name` (etcd, kube-apiserver, istiod's `pilot-discovery`, …)."""
    program = next(p for p in _ALL if name in p.binaries)
    return cache_folder() / "bin" / program.key / name


def distributions_folder() -> Path:
    """Folder with one Istio distribution per version, in the layout of an Istio release."""
    return cache_folder() / "distributions"


def gateway_api_folder() -> Path:
    """Folder with the YAML files of the Gateway API's definitions."""
    return program_folder("gateway-api") / "crds"


def node_tools() -> Path:
    """What a node finds under its /usr before the machine's: Debian's programs, unpacked."""
    digest = hashlib.sha256(" ".join(NODE_PACKAGES).encode()).hexdigest()
    return cache_folder() / "bin" / f"debian-{digest[:12]}" / "usr"


def build_all() -> None:
    """Builds what the cache lacks and lays out the distributions. Safe to run twice at once."""
    _build_all_of(PROGRAMS)
    _lay_out_distributions()


def build_nodes() -> None:
    """The same for what a real node needs besides, with its Debian packages unpacked."""
    _build_all_of(NODE_PROGRAMS)
    if not node_tools().is_dir():
        with build_lock():
            if not node_tools().is_dir():
                packages.unpack(NODE_PACKAGES, node_tools().parent)


def _build_all_of(programs: Sequence[Program]) -> None:
    missing = [p for p in programs if not is_built(p)]
    if missing:
        _require_go()
        with build_lock():
            _build_missing([p for p in missing if not is_built(p)])


def wanted() -> tuple[Program, ...]:
    """The programs that tests of this machine need: a real node's only where it can have one."""
    return PROGRAMS if obstacles.obstacle() else _ALL


def is_complete() -> bool:
    """Whether all that tests of this machine need is built."""
    return all(is_built(program) for program in wanted())


def install_packages() -> None:
    """Installs the Debian packages that are missing. Only `python -m tests.testbed.building` does.

    A test that needs one says so by itself, so that a user who may not install it can run the rest.
    """
    missing = [p for p in PACKAGES if not packages.is_there(p)]
    if missing:
        with build_lock():
            for package in [p for p in missing if not packages.is_there(p)]:
                _say(f"{package.name}: installing (usually {package.typical_seconds} s)")
                started = time.monotonic()
                packages.install(package)
                _say(f"{package.name}: done in {time.monotonic() - started:.0f} s")


def is_built(program: Program) -> bool:
    """Whether the cache has it, whole."""
    return (cache_folder() / "bin" / program.key).is_dir()


def _require_go() -> None:
    if shutil.which("go") is None:
        raise BuildError(
            "the test bed builds Kubernetes and Istio from their Go modules, but there is no `go` "
            "on PATH; install Go 1.26 or newer and run the command again"
        )


@contextmanager
def build_lock() -> Iterator[None]:
    """One at a time writes into the cache; the second waits, and says so."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another build of the bed is running; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build_missing(programs: list[Program]) -> None:
    minutes = sum(p.typical_seconds for p in programs) / 60
    _say(f"building {len(programs)} programs, about {minutes:.0f} minutes on two cores, once")
    for index, program in enumerate(programs, start=1):
        label = f"[{index}/{len(programs)}] {program.name} {program.version}"
        started = time.monotonic()
        _say(f"{label}: building (usually {program.typical_seconds} s)")
        _build(program, label=label)
        _say(f"{label}: done in {time.monotonic() - started:.0f} s")


def _build(program: Program, *, label: str) -> None:
    target = cache_folder() / "bin" / program.key
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{program.name}-", dir=target.parent) as scratch:
        source = Path(scratch) / "source"
        output = Path(scratch) / "output"
        source.mkdir()
        output.mkdir()
        _write_module(program, source)
        _seed_checksums(program, source)
        if program.binaries:
            _run_go(_build_command(program, output), source=source, label=label)
        _copy_folders(program, source=source, output=output)
        output.rename(target)


def _write_module(program: Program, source: Path) -> None:
    lines = [f"module bed/{program.name}", "", "go 1.26.0", "", "require ("]
    requires = {program.module: program.version, **program.requires}
    lines += [f"\t{module} {version}" for module, version in requires.items()]
    lines += [")", ""]
    for module, replacement in program.replaces.items():
        path, version = replacement.split("@")
        lines.append(f"replace {module} => {path} {version}")
    (source / "go.mod").write_text("\n".join(lines) + "\n")
    if program.main_go:
        (source / "main.go").write_text(program.main_go)


def _build_command(program: Program, output: Path) -> list[str]:
    packages = [package or "." for package in program.binaries.values()]
    command = ["go", "build", "-mod=mod", "-trimpath", "-v", f"-ldflags={program.ldflags}"]
    if program.tags:
        command.append(f"-tags={program.tags}")
    # One package may get a file name; several get the names of their folders.
    single = output / next(iter(program.binaries))
    return [*command, "-o", str(single if len(packages) == 1 else output), *packages]


def _run_go(command: list[str], *, source: Path, label: str) -> None:
    """Runs the go command; prints how many packages it has built every 20 s."""
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    tail: list[str] = []
    built, reported, started = 0, time.monotonic(), time.monotonic()
    with subprocess.Popen(
        command,
        cwd=source,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            tail = [*tail[-40:], line]
            built += not line.startswith("go: ")
            if time.monotonic() - reported > _REPORT_EVERY_S:
                reported = time.monotonic()
                _say(f"{label}: {built} packages, {reported - started:.0f} s")
    if process.returncode != 0:
        raise BuildError(
            f"{label} could not be built: `{' '.join(command[:2])}` ended with "
            f"{process.returncode}. Its last lines:\n{''.join(tail)}"
            "Check that the Go module proxy can be reached and that the disk has 12 GB free."
        )


def _copy_folders(program: Program, *, source: Path, output: Path) -> None:
    if not program.folders:
        return
    module = _module_folder(program, source)
    for name, folder in program.folders.items():
        shutil.copytree(module / folder, output / name)
        _make_writable(output / name)


def _module_folder(program: Program, source: Path) -> Path:
    """Where the module's source lies in Go's module cache; downloads it first."""
    answer = subprocess.run(
        ["go", "mod", "download", "-json", f"{program.module}@{program.version}"],
        cwd=source,
        env={**os.environ, "GOWORK": "off"},
        capture_output=True,
        text=True,
    )
    if answer.returncode != 0:
        raise BuildError(
            f"{program.module}@{program.version} cannot be downloaded: {answer.stderr.strip()}. "
            "Check that the Go module proxy can be reached."
        )
    return Path(json.loads(answer.stdout)["Dir"])


def _seed_checksums(program: Program, source: Path) -> None:
    """Takes over the module's own checksums, which its makers verified and committed."""
    own = _module_folder(program, source) / "go.sum"
    if own.exists():
        (source / "go.sum").write_bytes(own.read_bytes())


def _make_writable(folder: Path) -> None:
    """The module cache is read-only; a copy that is read-only as well could never be deleted."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)


def _lay_out_distributions() -> None:
    """Links `<version>/{bin/istioctl,manifests,samples}` to the built programs."""
    for version, program in DISTRIBUTIONS.items():
        built = program_folder(program)
        folder = distributions_folder() / version
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        _link(folder / "bin" / "istioctl", built / "istioctl")
        _link(folder / "manifests", built / "manifests")
        _link(folder / "samples", built / "samples")


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.symlink_to(target)
    temporary.replace(link)


def _say(text: str) -> None:
    print(f"bed: {text}", flush=True)


if __name__ == "__main__":
    try:
        install_packages()
        build_all()
        if not obstacles.obstacle():
            build_nodes()
    except (BuildError, packages.PackageMissing) as error:
        sys.exit(f"bed: {error}")
