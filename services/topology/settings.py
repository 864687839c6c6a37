"""Settings of the topology service: `MESHBUS_TOPOLOGY_…`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.chassis.settings import Duration
from services.topology.telemetry.selecting import read_labels


def _labels(text: str) -> str:
    read_labels(text)
    return text


class TopologySettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="MESHBUS_TOPOLOGY_", frozen=True)

    prometheus: SecretStr = SecretStr("")
    """Base URL of the Prometheus that scrapes the meshes of all clusters; user information in it is
    sent as basic authentication. Without one, each cluster's own is looked for among its Services,
    and where there is none, traffic comes from the proxies' own statistics."""
    prometheus_labels: Annotated[str, AfterValidator(_labels)] = ""
    """Labels that tell a cluster's series from those of others in that Prometheus, as NAME=VALUE
    separated by commas. `{name}` stands for the name under which the cluster was registered,
    `{token}` for its token: `cluster={name}`."""
    prometheus_from_clusters: bool = False
    """Lets the kubeconfig of a cluster name the address of a Prometheus (a Service in the cluster
    it may always name); it is sent requests from here, and whoever may register a cluster chooses
    the address."""
    prometheus_timeout: Duration = timedelta(seconds=10)
    """How long one query may take."""
    envoys: str = ""
    """Base URLs of Envoy admin interfaces to read statistics from where there is no Prometheus,
    separated by commas. Proxies in the clusters are reached through their API servers."""
    telemetry_every: Duration = Field(default=timedelta(seconds=15), ge=timedelta(seconds=1))
    """How often the traffic on the graph's edges is renewed."""
    telemetry_window: Duration = Field(default=timedelta(minutes=1), ge=timedelta(seconds=5))
    """Rates are over this time; at least four scrapes of Prometheus."""
    proxies_every: Duration = Field(default=timedelta(seconds=15), ge=timedelta(seconds=1))
    """How often each istiod is asked how its proxies stand with it."""
    team_label: str = "team"
    """Label of workloads, or of their namespaces, that says whose they are: the compliance report
    groups by it."""
    compliance_every: Duration = Field(
        default=timedelta(minutes=15), ge=timedelta(seconds=1), le=timedelta(days=1)
    )
    """How often it is looked whether compliance of a cluster changed, and kept if it did; once a
    day in any case. The stream has room for one in a quarter of an hour over ninety days: what is
    kept more often goes earlier."""
    drift: Literal["report", "heal", "ignore"] = "report"
    """What happens when an object that Meshbus applied is changed by somebody else, unless its
    annotation `meshbus.io/drift` says otherwise."""
    heal_attempts: int = Field(default=5, ge=1, le=100)
    """After so many repairs of one object within ten minutes, somebody fights: healing gives up."""
    follow_settle: Duration = Field(
        default=timedelta(milliseconds=80), ge=timedelta(milliseconds=10), le=timedelta(seconds=30)
    )
    """How long nothing that a translation depends on may have changed before it is translated
    again: a deployment brings its Services and workloads one by one. After more than eight changes
    four times as long; fifty times as long a burst is waited out at most."""
    follow_attempts: int = Field(default=5, ge=1, le=100)
    """How often a translation that follows the cluster is tried, after 4, 8, 16, … seconds, before
    it is given up until something changes again."""
    most_clusters: int = Field(default=100, ge=1, le=10_000)
    """Clusters that this process watches at most: each takes memory for all its objects. Replicas
    share them evenly up to that; one that finds no place is told to be unwatched, and those never
    reached do not count."""
    most_streams: int = Field(default=200, ge=1, le=10_000)
    """Browsers and other clients that may follow the graph over HTTP at a time."""

    console_url: str = Field(default="", pattern=r"^(https?://[^/?#\s]+)?$")
    """Where browsers reach the console, such as https://console.example.com. With https its cookies
    are never sent in clear; signing in by an issuer needs it."""
    oidc_issuer: str = Field(default="", pattern=r"^(https?://[^?#\s]+)?$")
    """OpenID Connect issuer that people sign in at; the gateway has to trust its tokens
    (`MESHBUS_GATEWAY_JWT_ISSUER`, with the client's id as the audience)."""
    oidc_client_id: str = ""
    """The console's name at the issuer. Its redirect address there is
    CONSOLE_URL/signin/callback."""
    oidc_client_secret: SecretStr = SecretStr("")
    """Its secret, where the issuer gave one; PKCE is used in any case."""
    oidc_scopes: str = "openid"
    """What is asked for, separated by blanks; some issuers tell groups by `groups` only."""
    traces_url: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """Where somebody finds an operation's trace, with `{operation}` for its id, such as the address
    of a search for the tag `messaging.message.conversation_id` in Jaeger."""

    @model_validator(mode="after")
    def _issuer_is_whole(self) -> Self:
        parts = (bool(self.oidc_issuer), bool(self.oidc_client_id))
        if any(parts) and not (all(parts) and self.console_url):
            raise ValueError("oidc_issuer, oidc_client_id and console_url belong together")
        if self.oidc_issuer and "openid" not in self.oidc_scopes.split():
            raise ValueError("oidc_scopes needs `openid`")
        return self

    def labels_of(self, *, name: str, token: str) -> dict[str, str]:
        """`prometheus_labels` of one cluster."""
        return {
            label: value.replace("{name}", name).replace("{token}", token)
            for label, value in read_labels(self.prometheus_labels).items()
        }

    @property
    def envoy_urls(self) -> list[str]:
        return _listed(self.envoys)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
