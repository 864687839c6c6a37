"""`python -m tests.bench.real_node`: an install on a node whose pods run, beside istioctl's.

In turns on one node, `--repeats` times each: a fresh install to ready pods, and the same again.
Seconds and ratios, the lowest of each, because others' load only adds.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

from tests.testbed import building
from tests.testbed.meshery import Meshery
from tests.testbed.realclusters import RealCluster
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.stack import Stack

_WITHIN_S = 300.0
_NAMESPACE = "istio-system"


async def main(repeats: int) -> None:
    building.build_all()
    building.build_nodes()
    with (
        tempfile.TemporaryDirectory(prefix="meshbus-real-") as folder,
        RealCluster(Path(folder) / "cluster") as cluster,
        Stack(Path(folder) / "stack", services=("lifecycle", "gateway")) as stack,
    ):
        async with Meshery(stack.gateway_address, [cluster.kubeconfig_text]).connected() as meshery:
            fresh: dict[str, list[float]] = {"Meshbus": [], "istioctl": []}
            again: dict[str, list[float]] = {"Meshbus": [], "istioctl": []}
            for _ in range(repeats):
                fresh["Meshbus"].append(await _timed(_ours(meshery)))
                again["Meshbus"].append(await _timed(_ours(meshery)))
                await _ours(meshery, delete=True)
                await _gone(cluster)
                fresh["istioctl"].append(await _timed(_istioctl(cluster, "install", "-y")))
                again["istioctl"].append(await _timed(_istioctl(cluster, "install", "-y")))
                await _istioctl(cluster, "uninstall", "--purge", "-y")
                namespace = ("namespace", _NAMESPACE, "--ignore-not-found")
                await asyncio.to_thread(cluster.kubectl, "delete", *namespace, timeout_s=120.0)
    print("\n| install on a real node | Meshbus, s | istioctl, s | ratio of the lowest |")
    print("|---|---|---|---|")
    for name, found in (("fresh", fresh), ("the same again", again)):
        ours, theirs = (sorted(found[who]) for who in ("Meshbus", "istioctl"))
        print(f"| {name} | {_told(ours)} | {_told(theirs)} | {ours[0] / theirs[0]:.2f} |")


async def _timed(work: Awaitable[None]) -> float:
    began = time.monotonic()
    await work
    return time.monotonic() - began


async def _ours(meshery: Meshery, *, delete: bool = False) -> None:
    operation = await meshery.apply("istio", version=ISTIO_VERSION, delete=delete)
    [final] = await meshery.finals(operation, within_s=_WITHIN_S)
    if final.failed:
        raise RuntimeError(final.event.summary)


async def _istioctl(cluster: RealCluster, *arguments: str) -> None:
    program = building.distributions_folder() / ISTIO_VERSION / "bin" / "istioctl"
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        f"--kubeconfig={cluster.kubeconfig}",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    _, complaint = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(complaint.decode()[-500:])


async def _gone(cluster: RealCluster) -> None:
    """Until the namespace is: the next one installs into a cluster without Istio."""
    while _NAMESPACE in await asyncio.to_thread(cluster.kubectl, "get", "namespaces"):
        await asyncio.sleep(0.5)


def _told(seconds: list[float]) -> str:
    return ", ".join(f"{each:.2f}" for each in seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.real_node", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    asyncio.run(main(parser.parse_args().repeats))
