"""`python -m tests.bench.in_cluster`: what Meshbus takes as pods, for docs/reference/images.md.

The chart is installed on two real nodes, `--repeats` times, each time in a cluster of its own. It
prints the time from `helm install` to the first answer of the gateway and to the end of the
command, and each part's memory once it has been at rest.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import grpc

from tests.testbed import building
from tests.testbed.charted import PARTS, Charted, Figures
from tests.testbed.generations import Generation, GenerationClient
from tests.testbed.processes import BedError
from tests.testbed.realclusters import RealCluster
from tests.testbed.waiting import eventually

_ANSWERS_WITHIN_S = 300.0
_AT_REST_WITHIN_S = 120.0
_COUNTED_EVERY_S = 15.0
_STEADY = 0.02


async def main(repeats: int) -> None:
    building.build_all()
    building.build_nodes()
    answered, ended, found = [], [], list[Figures]()
    for _ in range(repeats):
        with (
            tempfile.TemporaryDirectory(prefix="meshbus-home-") as folder,
            RealCluster(Path(folder) / "cluster", nodes=2) as cluster,
        ):
            home = Charted(cluster, Path(folder))
            await asyncio.to_thread(home.prepare)
            first, whole = await _installed(home)
            answered.append(first)
            ended.append(whole)
            found += await _at_rest(home)
    print(f"\n`helm install` to the gateway's first answer, s: {_told(answered)}")
    print(f"`helm install --wait` to its end, s: {_told(ended)}\n")
    print("| pod | making to ready, s | memory at rest, MB |\n|---|---|---|")
    for part in PARTS:
        of_part = [each for each in found if each.part == part]
        ready = _told([each.ready_s for each in of_part])
        print(f"| {part} | {ready} | {_told([each.memory_mb for each in of_part])} |")


async def _installed(home: Charted) -> tuple[float, float]:
    """Seconds to the first answer, and to the end of the command."""
    began = time.monotonic()
    installing = asyncio.create_task(asyncio.to_thread(home.install))
    await eventually(lambda: _answers(home), what="an answer", within_s=_ANSWERS_WITHIN_S)
    first = time.monotonic() - began
    await installing
    return first, time.monotonic() - began


async def _answers(home: Charted) -> bool:
    try:
        address = await asyncio.to_thread(lambda: home.gateway_address)
        async with GenerationClient(Generation.G, address) as client:
            await client.call("MeshName", {}, timeout_seconds=1.0)
    except (BedError, grpc.aio.AioRpcError):
        return False
    return True


async def _at_rest(home: Charted) -> list[Figures]:
    """The figures as soon as no pod's memory grows any more; kubelet counts every ten seconds."""
    before = await asyncio.to_thread(home.figures)
    async with asyncio.timeout(_AT_REST_WITHIN_S):
        while True:
            await asyncio.sleep(_COUNTED_EVERY_S)
            found = await asyncio.to_thread(home.figures)
            known = {each.pod: each for each in before}
            if all(_is_steady(known.get(each.pod), each) for each in found):
                return found
            before = found


def _is_steady(before: Figures | None, now: Figures) -> bool:
    return (
        before is not None
        and before.counted != now.counted
        and now.memory_mb <= before.memory_mb * (1 + _STEADY)
    )


def _told(samples: Sequence[float]) -> str:
    return f"{statistics.median(samples):.0f} ({min(samples):.0f} to {max(samples):.0f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.in_cluster", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="default: %(default)s")
    asyncio.run(main(parser.parse_args().repeats))
