"""`make bed`: local Kubernetes clusters that stay up after the command, and the way down again.

Their nodes are simulated, or real where that was asked for and the machine can. The state is one
folder. Each cluster's processes have records with pid and start time, written the
moment they start, so `down` ends exactly those: also after an `up` that was killed half way.
"""

from __future__ import annotations

import fcntl
import itertools
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.testbed import building, nodes, obstacles
from tests.testbed.clusters import Cluster, KubernetesApi, kubectl_path, start_side_by_side
from tests.testbed.processes import BedError, Identity
from tests.testbed.realclusters import NODE, RealCluster

_REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_FOLDER = _REPOSITORY / ".run" / "bed"

_MAX_CLUSTERS = 8
_KINDS = {False: "simulated", True: "real"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the cluster with this number lives inside the bed's folder."""

    bed: Path
    number: int

    @property
    def folder(self) -> Path:
        """State, logs and records of the cluster."""
        return self.bed / f"cluster-{self.number}"

    @property
    def kubeconfig(self) -> Path:
        """Where people find the kubeconfig; it exists only while the cluster is meant to be up."""
        return self.bed / ("kubeconfig" if self.number == 1 else f"kubeconfig-{self.number}")

    @property
    def is_real(self) -> bool:
        """Whether its node was started as a real one."""
        return (self.folder / NODE).is_dir()

    def identities(self) -> list[Identity]:
        """The recorded processes of the cluster, running or not."""
        return [Identity.read(record) for record in sorted(self.folder.glob("records/*.json"))]

    def is_up(self) -> bool:
        """Whether the start was completed, all processes run, and the API server is ready."""
        if not self.kubeconfig.exists():
            return False
        if not all(identity.is_running for identity in self.identities()):
            return False
        document = yaml.safe_load(self.kubeconfig.read_text())
        server_url = document["clusters"][0]["cluster"]["server"]
        return KubernetesApi(server_url, self.folder / "keys").is_ready

    def clear(self) -> int:
        """Ends the recorded processes, removes the state, and says how many processes it ended."""
        running = [identity for identity in self.identities() if identity.is_running]
        for identity in running:
            identity.end(grace_s=0.0)
        nodes.forget(self.folder / NODE)
        self.kubeconfig.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        return len(running)


def up(folder: Path, *, clusters: int = 1, real: bool = False) -> None:
    """Brings up as many clusters as asked for; those that are up already stay as they are."""
    if not 1 <= clusters <= _MAX_CLUSTERS:
        raise BedError(f"--clusters {clusters}: the bed has from 1 to {_MAX_CLUSTERS} clusters")
    if real and (why := obstacles.obstacle()):
        _say(f"no real node here: {why}. The nodes are simulated instead")
        real = False
    building.build_all()
    if real:
        building.build_nodes()
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one(folder):
        places = [Place(bed=folder, number=number) for number in range(1, clusters + 1)]
        up_already = [place for place in places if place.is_up()]
        for place in up_already:
            if place.is_real != real:
                raise BedError(
                    f"cluster {place.number} runs with {_KINDS[place.is_real]} nodes, not with "
                    f"{_KINDS[real]} ones; end it first (`python -m tests.testbed down`)"
                )
            _say(f"cluster {place.number} is already running")
        _start([place for place in places if place not in up_already], real=real)
    for place in places:
        _explain(place)


def down(folder: Path) -> None:
    """Ends every process of the bed and removes its state. Does nothing when there is none."""
    if not folder.exists():
        _say("nothing is running")
        return
    with _only_one(folder):
        ended = sum(place.clear() for place in _places(folder))
    # Only what `up` made was removed: `--folder` may name a folder that holds other things.
    with suppress(OSError):
        folder.rmdir()
    _say(f"ended {ended} processes and removed their state" if ended else "nothing was running")


def status(folder: Path) -> bool:
    """Prints the state of each cluster; True when there is one and all are up."""
    places = _places(folder)
    if not places:
        _say("no cluster; `python -m tests.testbed up` starts one")
    everything_is_up = bool(places)
    for place in places:
        is_up = place.is_up()
        everything_is_up &= is_up
        _say(f"cluster {place.number}: {'ready' if is_up else 'NOT ready'}")
        for identity in place.identities():
            state = "running" if identity.is_running else "ended"
            print(f"  {identity.name:<24} pid {identity.pid:<8} {state}")
        print(f"  kubeconfig {place.kubeconfig}\n  logs       {place.folder / 'logs'}")
    return everything_is_up


def _start(places: list[Place], *, real: bool) -> None:
    if not places:
        return
    for place in places:
        if ended := place.clear():
            _say(f"cluster {place.number} was not whole; ended what was left ({ended} processes)")
    started = time.monotonic()
    kind = RealCluster if real else Cluster
    clusters = [kind(place.folder, name=f"bed-{place.number}", detached=True) for place in places]
    start_side_by_side(clusters)
    for one, other in itertools.combinations(clusters, 2):
        if isinstance(one, RealCluster) and isinstance(other, RealCluster):
            nodes.link(one.node, other.node)
    for place, cluster in zip(places, clusters, strict=True):
        temporary = place.kubeconfig.with_suffix(".new")
        temporary.touch(mode=0o600)
        temporary.write_text(cluster.kubeconfig_text)
        temporary.replace(place.kubeconfig)
    _say(f"{len(places)} cluster(s) ready after {time.monotonic() - started:.1f} s")


def _places(folder: Path) -> list[Place]:
    suffixes = (path.name.removeprefix("cluster-") for path in folder.glob("cluster-*"))
    numbers = sorted(int(suffix) for suffix in suffixes if suffix.isdecimal())
    return [Place(bed=folder, number=number) for number in numbers]


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Two commands on one bed at once: the second waits for the first."""
    # Beside the folder, since `down` removes the folder while it holds the lock.
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _explain(place: Place) -> None:
    _say(f"kubeconfig of cluster {place.number}: {place.kubeconfig}")
    print(f"  try it:   {kubectl_path()} --kubeconfig {place.kubeconfig} get nodes")
    print(f"  logs:     {place.folder / 'logs'}")


def _say(text: str) -> None:
    print(f"bed: {text}", flush=True)


def run_command(*arguments: str) -> str:
    """What `python -m tests.testbed` with these arguments prints; it has to succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.testbed", *arguments],
        cwd=_REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
