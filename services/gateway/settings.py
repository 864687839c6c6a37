"""Settings of the gateway: `MESHBUS_GATEWAY_…`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.chassis.settings import Duration

DEFAULT_PORT = 10000


class GatewaySettings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="MESHBUS_GATEWAY_", frozen=True, use_attribute_docstrings=True
    )

    host: str = "127.0.0.1"
    """Interface of the gRPC port. The contract has no authentication of its own, so only what runs
    on the same machine gets in by default; a deployment sets 0.0.0.0 and guards the network."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """Port of gRPC; 10000 plus the port offset where it is not set."""
    tls_certificate: Path | None = None
    """PEM file of the server's certificate chain; without it the port speaks plaintext."""
    tls_key: Path | None = None
    """PEM file of the certificate's private key."""
    tls_client_ca: Path | None = None
    """PEM file of authorities; with it every client must show a certificate that they signed."""
    max_message_bytes: int = Field(default=16 * 1024 * 1024, ge=64 * 1024)
    """Largest request: kubeconfigs of all selected contexts and the manifest travel in one."""
    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    """Largest `custom_body`."""
    event_queue: int = Field(default=1024, ge=8)
    """Events that wait for one client at most."""
    slow_client_grace: Duration = timedelta(seconds=5)
    """How long a client may stay behind the others before it is disconnected."""
    keepalive: Duration = Field(default=timedelta(seconds=30), ge=timedelta(seconds=1))
    """How long a connection may be silent before the gateway asks whether the peer is there."""
    register_clusters: bool = True
    """Keeps each cluster's sealed kubeconfig on its first use, for watching it."""
    operation_deadline: Duration = Field(default=timedelta(minutes=30), gt=timedelta(0))
    """How long an operation may wait for a worker and run."""
    call_deadline: Duration = Field(default=timedelta(minutes=10), gt=timedelta(0))
    """How long ProcessOAM and Provision wait for their work to be done; it goes on after that."""
    git_sha: str = ""
    """Commit of this build, for ComponentInfo."""

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        return self
