"""A real Prometheus on loopback that scrapes what a test names, each second."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.testbed import loopback, packages
from tests.testbed.processes import Process, wait_until

_READY_TIMEOUT_S = 30.0


class Prometheus:
    """One Prometheus with its storage in a folder of the run."""

    def __init__(
        self,
        folder: Path,
        targets: Mapping[str, Sequence[str]],
        *,
        labels: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Chooses a port; nothing runs before `start`. `targets` are the jobs by name, each a list
        of `host:port` or `host:port/path/of/metrics`; `labels` those that a job's series get."""
        self.folder = folder.resolve()
        self._address = f"{loopback.HOST}:{loopback.take_port()}"
        self.url = f"http://{self._address}"
        self._configuration = self.folder / "prometheus.yaml"
        self._document = _configuration(targets, labels or {})
        self.process = Process(
            "prometheus",
            [packages.program("prometheus"), *self._flags()],
            log=self.folder / "prometheus.log",
        )

    def __enter__(self) -> Prometheus:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts Prometheus and waits until it answers queries; it has scraped nothing by then."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._configuration.write_text(yaml.safe_dump(self._document))
        self.process.start()
        try:
            wait_until(
                self._is_ready,
                timeout_s=_READY_TIMEOUT_S,
                what="Prometheus",
                processes=[self.process],
            )
        except BaseException:
            self.process.kill()
            raise

    def stop(self) -> None:
        """Ends Prometheus at once; a test's samples are worth no orderly end."""
        self.process.kill()

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Result of an instant query as of now, in Prometheus's JSON."""
        text = urllib.parse.urlencode({"query": query})
        answer = loopback.fetch_json(f"{self.url}/api/v1/query?{text}")
        return list(answer["data"]["result"])

    def _is_ready(self) -> bool:
        return loopback.fetch(f"{self.url}/-/ready", timeout_s=2.0) is not None

    def _flags(self) -> list[str]:
        return [
            f"--config.file={self._configuration}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={self._address}",
            "--log.level=warn",
        ]


def _configuration(
    targets: Mapping[str, Sequence[str]], labels: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    jobs = [
        {
            "job_name": job,
            "static_configs": [_target(target, labels.get(job, {})) for target in listed],
        }
        for job, listed in targets.items()
    ]
    return {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs}


def _target(target: str, labels: Mapping[str, str]) -> dict[str, Any]:
    address, slash, path = target.partition("/")
    told = {"__metrics_path__": slash + path} if path else {}
    return {"targets": [address], "labels": {**labels, **told}}
