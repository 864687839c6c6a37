"""Settings of the translator service: `MESHBUS_TRANSLATOR_…`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.chassis.settings import Duration


class TranslatorSettings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="MESHBUS_TRANSLATOR_", frozen=True, use_attribute_docstrings=True
    )

    distributions: Path
    """Folder with one Istio distribution per version: `<version>/manifests`, the layout of an Istio
    release archive. The definitions that objects are validated against come from there."""
    gateway_api: Path | None = None
    """Folder with the YAML files of the Gateway API's definitions; without it objects of the
    Gateway API are validated by the cluster alone."""
    slots: int = Field(default=16, ge=1, le=1000)
    """Commands that one worker takes before any other worker has its turn."""
    in_hand: int = Field(default=128, ge=1, le=1000)
    """Commands that one worker translates side by side. Most of the time they wait for what
    lifecycle reads in their clusters, and those that do not answer must leave room for others."""
    facts_timeout: Duration = timedelta(seconds=60)
    """How long lifecycle may take to read what a translation depends on."""
