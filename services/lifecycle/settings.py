"""Settings of the lifecycle service: `MESHBUS_LIFECYCLE_…`."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from services.chassis.settings import Duration


class LifecycleSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="MESHBUS_LIFECYCLE_", frozen=True)

    distributions: Path
    """Folder with one Istio distribution per version: `<version>/{bin/istioctl,manifests,samples}`,
    the layout of an Istio release archive. Versions that are fetched are added to it, so lifecycle
    writes there unless `MESHBUS_LIFECYCLE_RELEASES` is `off`; workers may share it."""
    releases: str = "https://github.com/istio/istio/releases/download"
    """Address below which versions that are not in the folder are found, as
    `<version>/istio-<version>-linux-amd64.tar.gz` with the same `.sha256`: Istio's own releases, or
    a mirror of them. What it serves is run with the rights of lifecycle. `off` fetches nothing."""
    releases_known: Annotated[tuple[str, ...], NoDecode] = ("1.31.0", "1.30.3")
    """Versions that are offered although they are not here yet, separated by commas; the newest is
    installed where the folder is empty and nobody names one. Any other exact version is fetched
    too."""
    releases_kept: int = Field(default=12, ge=1)
    """Distributions in the folder beyond which no other one is fetched: anybody who may install may
    name any version, and each takes a third of a gigabyte."""
    release_bytes: int = Field(default=256 * 1024 * 1024, ge=1)
    """Of one archive; those of Istio have less than 50 MB."""
    release_unpacked_bytes: int = Field(default=1024 * 1024 * 1024, ge=1)
    """Of all that one archive unpacks to; those of Istio have less than 200 MB."""
    release_members: int = Field(default=20_000, ge=1)
    """Files and folders in one archive; those of Istio have less than 2 000."""
    release_timeout: Duration = timedelta(minutes=10)
    """How long one archive may take to come. The deadline of the operation counts as well."""
    hub: str = "docker.io/istio"
    """Image hub where the overlay sets none: the charts' own default is being switched off."""
    rendered: Path | None = None
    """Folder in which the meshes that istioctl has rendered are kept for the next start; those with
    an overlay of the user's are not. Unset, it is `.rendered` in the folder of the distributions,
    or none where `MESHBUS_LIFECYCLE_RELEASES` is `off`. Who can write there decides what is
    installed, as in the other."""
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

    @field_validator("releases")
    @classmethod
    def _address(cls, text: str) -> str:
        if text != "off" and not re.match(r"https?://[^/]", text):
            raise ValueError("is the address of a server, or off")
        return text

    @field_validator("releases_known", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @property
    def rendered_folder(self) -> Path | None:
        """Where rendered meshes are kept; None where they are not."""
        if self.rendered is None and self.fetches:
            return self.distributions / ".rendered"
        return self.rendered

    @property
    def fetches(self) -> bool:
        """Whether versions that are not here are fetched."""
        return self.releases != "off"
