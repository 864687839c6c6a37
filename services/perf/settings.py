"""Settings of the perf service: `MESHBUS_PERF_…`."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.chassis.settings import Duration


class PerfSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="MESHBUS_PERF_", frozen=True)

    fortio: str = "fortio"
    """Program of the generator fortio: a path, or a name on PATH."""
    wrk2: str = "wrk2"
    """Program of the generator wrk2: a path, or a name on PATH."""
    slots: int = Field(default=1, ge=0, le=64)
    """Shards that this worker makes load for at the same time; 0 leaves that to other workers, and
    this one only conducts. More than one shares the processors among them."""
    runs: int = Field(default=16, ge=1, le=256)
    """Runs that this worker conducts side by side; conducting costs next to nothing."""
    start_within: Duration = Field(default=timedelta(seconds=30), gt=timedelta(0))
    """How long a run waits until workers have taken all its shards: as long as scaling up takes."""
    lost_after: Duration = Field(default=timedelta(seconds=10), ge=timedelta(seconds=2))
    """Silence after which a worker counts as dead; it reports each second."""
    progress: Duration = Field(default=timedelta(seconds=5), ge=timedelta(seconds=1))
    """How often a run's events tell how far it is; its status is renewed each second."""
    targets: str = (
        "*.svc,*.svc.cluster.local,localhost,127.0.0.0/8,::1/128,"
        "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7"
    )
    """What load is made against, separated by commas: patterns of host names, and ranges for
    targets that are IP addresses. As it is, Services by their full names, and the addresses that
    gateways of local clusters have. In a cluster: `*.svc,*.svc.cluster.local`, and the names of
    its gateways. NATS' own host and the API server's Service are never targets."""
    most_rate: float = Field(default=5_000, gt=0, le=1_000_000)
    """Requests per second of one test at most. A rate of 0 (as fast as the connections allow) is
    bounded by the connections and by what the target answers."""
    most_connections: int = Field(default=500, ge=1, le=10_000)
    """Connections of one test at most, over all workers."""
    longest: Duration = Field(
        default=timedelta(hours=1), ge=timedelta(seconds=1), le=timedelta(hours=24)
    )
    """The longest test; of a search for saturation, all its steps."""
    prometheus: str = ""
    """Base URL of the Prometheus that scrapes the mesh. Without one, that of the test's cluster is
    asked through topology, and where there is none, a run's result says nothing about the mesh's
    telemetry."""
    prometheus_from_tests: bool = False
    """Lets a test name the Prometheus that is asked about its run; it is sent requests from here,
    and whoever may send a test chooses the address."""
    prometheus_scrape_interval: Duration = timedelta(seconds=15)
    """How often it scrapes the mesh: a run's result waits for the scrape that sees its end."""
    prometheus_timeout: Duration = timedelta(seconds=10)
    """How long one query may take."""
    gate_timeout: Duration = timedelta(minutes=5)
    """How long lifecycle may take to apply or roll back a gate's change."""

    @property
    def target_list(self) -> list[str]:
        """`targets`, one by one."""
        return [part.strip() for part in self.targets.split(",") if part.strip()]
