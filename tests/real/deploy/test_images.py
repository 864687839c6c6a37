"""The images as `make image` builds them without an engine: what is in them, and that it runs.

Each container here is a chroot into the image's files in namespaces of its own: the user, the
process tree and the mounts are as a container's, with nothing of this machine's Python in reach.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from deploy.bom import normal
from deploy.image.contents import CORE, IMAGES, PERF, Image, packages
from tests.testbed import packages as debian
from tests.testbed.stack import ROOT

pytestmark = pytest.mark.full
"""Two builds take minutes."""

SERVICES = {"core": ("gateway", "lifecycle", "translator", "topology"), "perf": ("perf",)}
USER = 65532


@pytest.fixture(scope="module")
def built_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the archives of both."""
    for package in ("buildah", "mmdebstrap"):
        debian.program(package)
    folder = tmp_path_factory.mktemp("images")
    build(folder)
    return folder


def build(folder: Path, *options: str) -> None:
    command = [sys.executable, "-m", "deploy.image", "--engine=buildah", "--base=debian"]
    command += ["--archives", f"--folder={folder}", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module", params=IMAGES, ids=lambda image: image.name)
def image(request: pytest.FixtureRequest) -> Image:
    found: Image = request.param
    return found


def archive(folder: Path, image: Image) -> Path:
    [file] = folder.glob(f"meshbus-{image.name}-*.tar")
    return file


def config(file: Path) -> dict[str, Any]:
    """The image's configuration, with the digests of its layers."""
    with tarfile.open(file) as tar:
        [entry] = json.loads(_member(tar, "manifest.json"))
        loaded: dict[str, Any] = json.loads(_member(tar, entry["Config"]))
        return loaded


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    stream = tar.extractfile(name)
    assert stream is not None
    return stream.read()


@pytest.fixture(scope="module")
def root(built_images: Path, image: Image) -> Path:
    """The image's files."""
    folder = built_images / f"root-{image.name}"
    folder.mkdir()
    with tarfile.open(archive(built_images, image)) as tar:
        [entry] = json.loads(_member(tar, "manifest.json"))
        for name in entry["Layers"]:
            layer = tar.extractfile(name)
            assert layer is not None
            with tarfile.open(fileobj=layer) as files:
                files.extractall(folder, filter="tar")
    return folder


_PYTHONPATH = "/opt/meshbus/app:/opt/meshbus/lib"


def run(root: Path, *command: str) -> str:
    """What a container prints that runs `command`: no root, nothing writable, process 1."""
    for folder in ("proc", "tmp"):
        (root / folder).mkdir(exist_ok=True)
    inside = f"mount --bind -o ro {root} {root} && mount -t proc proc {root}/proc && "
    inside += "export PATH=/opt/meshbus/bin:/usr/bin:/bin && "
    inside += f"exec /usr/sbin/chroot --userspec={USER}:{USER} {root} " + '"$@"'
    entered = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", inside, "-"]
    program = ["/opt/meshbus/bin/dumb-init", "--single-child", "--", *command]
    done = subprocess.run(
        [*entered, *program],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": _PYTHONPATH},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_as_small_as_it_should_be(root: Path, image: Image) -> None:
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(path.stat().st_size for path in files) <= image.most_bytes
    assert not (root / "bin" / "sh").exists()
    assert not (root / "usr" / "bin" / "apt").exists()


def test_it_says_what_it_is(built_images: Path, image: Image, root: Path) -> None:
    said = config(archive(built_images, image))["config"]
    assert said["User"] == f"{USER}:{USER}"
    # Without the option, whoever ends the service ends what it runs with it.
    assert said["Entrypoint"][1:] == ["--single-child", "--"]
    assert said["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert said["Labels"]["org.opencontainers.image.title"] == f"meshbus-{image.name}"
    listed = json.loads((root / "opt/meshbus/sbom.json").read_text())["components"]
    names = {normal(each["name"]) for each in listed}
    assert packages(image) <= names
    installed = {
        normal(path.name.rpartition("-")[0])
        for path in (root / "opt/meshbus/lib").glob("*.dist-info")
        for path in [Path(path.name.removesuffix(".dist-info"))]
    }
    assert installed <= names, "what is in it stands in its bill"


def test_its_services_load_and_it_has_what_they_call(root: Path, image: Image) -> None:
    for service in SERVICES[image.name]:
        run(root, "python3", "-c", f"import services.{service}.__main__")
    program = "fortio" if image is PERF else "nats-server"
    assert "." in run(root, program, "version" if image is PERF else "--version")
    told = run(
        root, "python3", "-c", "import ssl; print(ssl.create_default_context().get_ca_certs())"
    )
    assert "commonName" in told
    if image is CORE:
        assert "usage" in run(root, "python3", "-m", "deploy.cluster", "--help")


def test_its_bytecode_is_used(root: Path, image: Image) -> None:
    """A service that has to compile all that it imports starts seconds later."""
    name = SERVICES[image.name][0]
    script = (
        f"import importlib.util, services.{name}.__main__ as m, sys\n"
        "lacking = [k for k, v in sys.modules.items() if getattr(v, '__cached__', None)"
        " and not __import__('os').path.exists(v.__cached__)]\n"
        "print(lacking)"
    )
    assert run(root, "python3", "-c", script).strip() == "[]"


def test_process_one_reaps(root: Path, image: Image) -> None:
    script = (
        "import os, time\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.fork() or os._exit(0)\n"  # the grandchild is process 1's from now on
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "state = lambda p: open(f'/proc/{p}/stat').read().split()[2]\n"
        "mine = {str(os.getpid()), '1'}\n"
        "deadline = time.monotonic() + 30\n"
        "while set(filter(str.isdigit, os.listdir('/proc'))) - mine:\n"
        "    assert time.monotonic() < deadline\n"
        "print('alone')"
    )
    assert run(root, "python3", "-c", script) == "alone\n"


def test_nothing_can_be_written(root: Path, image: Image) -> None:
    script = (
        "import os\n"
        "for folder in ('/', '/opt/meshbus/app', '/etc'):\n"
        "    try: open(folder + '/file', 'w'); print('wrote')\n"
        "    except OSError: pass\n"
        "print(os.getuid())"
    )
    assert run(root, "python3", "-c", script) == f"{USER}\n"


def test_the_same_commit_gives_the_same_bytes(built_images: Path, tmp_path: Path) -> None:
    build(tmp_path)
    for each in IMAGES:
        first, second = config(archive(built_images, each)), config(archive(tmp_path, each))
        assert first["rootfs"] == second["rootfs"]
        assert first == second
