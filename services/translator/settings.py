"""Settings of the translator service: `MESHBUS_TRANSLATOR_…`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.chassis.messages import FollowMode
from services.chassis.settings import Duration
from services.translator.work import Follows


class TranslatorSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="MESHBUS_TRANSLATOR_", frozen=True)

    distributions: Path | None = None
    """Folder with one Istio distribution per version: `<version>/manifests`, the layout of an Istio
    release archive. The definitions that objects are validated against come from there. Without it
    they come over the bus, of the versions that lifecycle has."""
    gateway_api: Path | None = None
    """Folder with the YAML files of the Gateway API's definitions; without it objects of the
    Gateway API are validated by the cluster alone."""
    slots: int = Field(default=16, ge=1, le=1000)
    """Commands that one worker takes before any other worker has its turn."""
    in_hand: int = Field(default=128, ge=1, le=1000)
    """Commands that one worker translates side by side. Most of the time they wait for what
    lifecycle reads in their clusters, and those that do not answer must leave room for others."""
    follow: FollowMode = FollowMode.APPLY
    """What happens when Services, workloads, served versions or the mesh change that the
    translation of an SMI object depended on, unless its annotation `meshbus.io/follow` says
    otherwise: `apply` translates it again and applies that, `report` only tells, `ignore` keeps
    nothing of it."""
    follow_sources: int = Field(default=100, ge=1, le=1000)
    """SMI objects of one request that are followed at most: each is kept with the request, so that
    it can be translated again. Of more none is, and an event says so."""
    follow_bytes: int = Field(default=256 * 1024, ge=1024, le=4 * 1024 * 1024)
    """Characters that the body of a followed request may have, for the same reason."""
    facts_timeout: Duration = timedelta(seconds=60)
    """How long lifecycle may take to read what a translation depends on."""

    @property
    def follows(self) -> Follows:
        """Which sources of a request are kept."""
        return Follows(self.follow, self.follow_sources, self.follow_bytes)
