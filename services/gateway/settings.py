"""Settings of the gateway: `MESHBUS_GATEWAY_…`."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.chassis.settings import Duration

DEFAULT_PORT = 10000


class GatewaySettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="MESHBUS_GATEWAY_", frozen=True)

    host: str = "127.0.0.1"
    """Interface of the gRPC port. Meshery brings no proof of who it is, so only what runs on the
    same machine gets in by default; with another address a way to tell callers apart is needed,
    or `anonymous` and a guarded network."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """Port of gRPC; 10000 plus the port offset where it is not set."""
    tls_certificate: Path | None = None
    """PEM file of the server's certificate chain; without it the port speaks plaintext."""
    tls_key: Path | None = None
    """PEM file of the certificate's private key."""
    tls_client_ca: Path | None = None
    """PEM file of authorities; with it every client must show a certificate that they signed. Its
    SPIFFE id or common name is the identity, its organizations are the groups. The three files are
    read again when they change."""
    tokens: Path | None = None
    """YAML file of bearer tokens by their hashes; `python -m services.gateway.door NAME` makes
    one. Read again when it changes."""
    jwt_issuer: str = ""
    """The `iss` of JSON Web Tokens that are accepted; needs `jwt_audience` and `jwt_keys`."""
    jwt_audience: str = ""
    """The `aud` that they must have."""
    jwt_keys: Path | None = None
    """JWKS file with the issuer's public keys (RS256, ES256, EdDSA), read again when it changes. A
    file, because a gateway that fetched keys would trust whoever answers at that address."""
    jwt_identity_claim: str = "sub"
    """The claim that names the identity."""
    jwt_groups_claim: str = "groups"
    """The claim that lists its groups."""
    anonymous: bool | None = None
    """Whether calls without any proof are let in, as the identity `local`. By default only on
    loopback and where no other way is configured. `true` on another address trusts the network:
    close it by a NetworkPolicy."""
    remembers_peers: bool | None = None
    """Whether the kubeconfig of CreateMeshInstance (generations A to C) counts for the later calls
    of the same identity on the same connection. By default on loopback and where every call proves
    who asks: a proxy lets strangers share a connection."""
    max_connections: int = Field(default=2048, ge=8)
    """Connections in all; beyond them new ones are closed at once. Three quarters of the process'
    limit of open files at most, so that NATS and health always have some."""
    max_connections_per_address: int = Field(default=1024, ge=4)
    """Connections of one address, three quarters of all at most. Beyond them those that never made
    a call are ended first."""
    handshake_timeout: Duration = Field(default=timedelta(seconds=10), ge=timedelta(seconds=1))
    """How long a new connection may take until it speaks HTTP/2."""
    connection_idle: Duration = Field(default=timedelta(hours=1), ge=timedelta(seconds=10))
    """How long a connection may be without a call. Clients connect again by themselves, but those
    of generations A to C send their kubeconfig again only then."""
    answer_deadline: Duration = Field(default=timedelta(minutes=1), gt=timedelta(0))
    """How long any other call than ProcessOAM and Provision may take: Meshery sets no deadline."""
    max_message_bytes: int = Field(default=5 * 1024 * 1024, ge=64 * 1024)
    """Largest request: kubeconfigs of all selected contexts and the manifest travel in one, so this
    is the largest body and one MiB. Nobody else is answered while gRPC takes a message apart, up to
    a millisecond for each MiB that is not plain ASCII."""
    max_message_fields: int = Field(default=10_000, ge=200)
    """Most fields of one request, each kubeconfig and each component being one. Empty ones take two
    bytes in a message and a hundred in memory."""
    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    """Largest `custom_body`."""
    event_queue: int = Field(default=1024, ge=8)
    """Events that wait for one client at most."""
    slow_client_grace: Duration = timedelta(seconds=5)
    """How long a client may stay behind the others before it is disconnected."""
    replay_gap: Duration = Field(default=timedelta(seconds=30), ge=timedelta(0))
    """How long nobody may listen until what was told meanwhile is old: a client that comes later
    gets events of so long before, and all of operations that still run. Meshery takes up to ten
    seconds to connect again. `nats req mesh.gateway.events` has the rest."""
    keepalive: Duration = Field(default=timedelta(seconds=30), ge=timedelta(seconds=1))
    """How long a connection may be silent before the gateway asks whether the peer is there."""
    operation_deadline: Duration = Field(default=timedelta(minutes=30), gt=timedelta(0))
    """How long an operation may wait for a worker; once begun it may go on for as long again, then
    the gateway fails what no worker has ended."""
    call_deadline: Duration = Field(default=timedelta(minutes=10), gt=timedelta(0))
    """How long ProcessOAM and Provision wait for their work to be done; it goes on after that."""
    most_clusters: int = Field(default=100, ge=1, le=1000)
    """Kubeconfigs in one call: each becomes a command, and all are stored before the answer."""
    quota_commands: int = Field(default=500, ge=1)
    """Commands (operations, counted for each cluster) that one identity may have waiting or
    running: the queue is everybody's, and workers take it in order."""
    quota_clusters: int = Field(default=200, ge=1)
    """Different clusters among them: one that does not answer costs a worker more than a command
    that waits behind another of the same cluster."""
    quota_bytes: int = Field(default=64 * 1024 * 1024, ge=1024 * 1024)
    """Bytes of bodies and kubeconfigs among them: a quarter of what the queue of commands holds."""
    quota_streams: int = Field(default=10_000, ge=1)
    """StreamEvents calls that one identity may have open: each takes some kilobytes, ten thousand
    were measured to harm nobody."""
    meshery: str = ""
    """Address of Meshery's server, such as http://meshery:9081. With it the Istio versions that can
    be installed are registered there, so that its page offers them (docs/reference/meshery.md)."""
    meshery_provider: str = Field(default="None", pattern=r"^[^;,\s]*$")
    """Name of the provider of identities that the server is told; empty leaves it to the server."""
    meshery_token: SecretStr | None = None
    """Token of a user of that provider; `None` asks for none."""
    meshery_look: Duration = Field(default=timedelta(seconds=30), ge=timedelta(seconds=1))
    """How often the registration is looked after: a server that was restarted may have lost it."""
    meshery_patience: Duration = timedelta(minutes=5)
    """How long the server may be away until an event says so."""
    git_sha: str = ""
    """Commit of this build, for ComponentInfo."""

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        return self

    @model_validator(mode="after")
    def _meshery_is_an_address(self) -> Self:
        parts = urlsplit(self.meshery)
        if self.meshery and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("meshery must begin with http:// or https:// and name a host")
        return self

    @model_validator(mode="after")
    def _issuer_is_whole(self) -> Self:
        parts = (bool(self.jwt_issuer), bool(self.jwt_audience), self.jwt_keys is not None)
        if any(parts) and not all(parts):
            raise ValueError("jwt_issuer, jwt_audience and jwt_keys belong together")
        return self

    @model_validator(mode="after")
    def _strangers_are_meant(self) -> Self:
        if not (self.is_local or self.proves or self.anonymous):
            raise ValueError(
                f"{self.host} lets others in than this machine's, and nothing tells who they are: "
                "set tls_client_ca, tokens or jwt_issuer; or anonymous=true, and guard the network"
            )
        return self

    @property
    def is_local(self) -> bool:
        """Whether the port can only be reached from this machine."""
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def proves(self) -> bool:
        """Whether there is a way to prove who asks."""
        return bool(self.tls_client_ca or self.tokens or self.jwt_issuer)

    @property
    def lets_anyone_in(self) -> bool:
        if self.anonymous is not None:
            return self.anonymous
        return self.is_local and not self.proves

    @property
    def keeps_peers(self) -> bool:
        if self.remembers_peers is not None:
            return self.remembers_peers
        return self.is_local or not self.lets_anyone_in
