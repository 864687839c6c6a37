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
    slots_per_cluster: int = Field(default=6, ge=1, le=64)
    """How many of them may be for one cluster, one less than all at most: its API server may hang,
    and the others' operations must not wait for that."""
    in_hand: int = Field(default=128, ge=1, le=1000)
    """Commands that one worker holds at a time, running or not: those whose cluster does not
    answer wait here and take no slot. A worker that dies gives all of them to another one."""
    first_contact: Duration = Field(default=timedelta(seconds=8), gt=timedelta(0))
    """How long a cluster may take to answer for the first time. One that is registered with the
    same credential gets longer, since it may be restarting."""
    clusters_per_identity: int = Field(default=50, ge=1)
    """Clusters that one identity may have registered: half of what a topology worker watches, so
    that nobody fills it alone, be it with API servers of their own making."""
    register_clusters: bool = True
    """Keeps each cluster's sealed kubeconfig once the cluster has accepted it, for watching it."""
    parallel_writes: int = Field(default=12, ge=1, le=64)
    """Requests that one operation has open at one API server."""
    render_timeout: Duration = timedelta(seconds=60)
    """How long istioctl may take to render a manifest."""
    client_idle: Duration = timedelta(minutes=2)
    """How long a connection to a cluster is kept for the next operation."""
