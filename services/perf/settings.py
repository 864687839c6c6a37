"""Settings of the perf service: `MESHBUS_PERF_…`."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.chassis.settings import Duration


class PerfSettings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="MESHBUS_PERF_", frozen=True, use_attribute_docstrings=True
    )

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
    prometheus: str = ""
    """Base URL of the Prometheus that scrapes the mesh, for runs that name no other. Without one,
    a run's result says nothing about the mesh's telemetry."""
    prometheus_scrape_interval: Duration = timedelta(seconds=15)
    """How often it scrapes the mesh: a run's result waits for the scrape that sees its end."""
    prometheus_timeout: Duration = timedelta(seconds=10)
    """How long one query may take."""
    gate_timeout: Duration = timedelta(minutes=5)
    """How long lifecycle may take to apply or roll back a gate's change."""
