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
    slots: int = Field(default=16, ge=1, le=64)
    """Commands that one worker translates side by side."""
    facts_timeout: Duration = timedelta(seconds=60)
    """How long lifecycle may take to read what a translation depends on."""
