"""Settings of the lifecycle service: `MESHBUS_LIFECYCLE_…`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.chassis.settings import Duration


class LifecycleSettings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="MESHBUS_LIFECYCLE_", frozen=True, use_attribute_docstrings=True
    )

    distributions: Path
    """Folder with one Istio distribution per version: `<version>/{bin/istioctl,manifests,samples}`,
    the layout of an Istio release archive."""
    hub: str = "docker.io/istio"
    """Image hub where the overlay sets none: the charts' own default is being switched off."""
    slots: int = Field(default=8, ge=1, le=64)
    """Commands that one worker runs side by side."""
    parallel_writes: int = Field(default=12, ge=1, le=64)
    """Requests that one operation has open at one API server."""
    render_timeout: Duration = timedelta(seconds=60)
    """How long istioctl may take to render a manifest."""
    client_idle: Duration = timedelta(minutes=2)
    """How long a connection to a cluster is kept for the next operation."""
