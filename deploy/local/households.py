"""The sealing keys of an installation, which tests may change as an operator does."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import SecretStr

from services.chassis.sealing import RECEIVERS, Keys, generate_keys
from services.chassis.settings import ChassisSettings


@dataclass(slots=True)
class Household:
    """A key pair for each receiver, and the former ones of those that were changed."""

    _pairs: dict[str, list[tuple[str, str]]] = field(
        default_factory=lambda: {name: [generate_keys()] for name in RECEIVERS}
    )
    """Newest first."""
    _offered: dict[str, str] = field(default_factory=dict)
    """Public keys that senders go on using while the receiver has a newer one already."""

    def prepare(self, service: str) -> None:
        """A new key for the receiver; senders go on with the former one."""
        self._offered.setdefault(service, self._pairs[service][0][0])
        self._pairs[service].insert(0, generate_keys())

    def publish(self, service: str) -> None:
        """Senders use the receiver's newest key from now on."""
        self._offered.pop(service, None)

    def renew(self, service: str) -> None:
        self.prepare(service)
        self.publish(service)

    def forget(self, service: str) -> None:
        """The receiver has its newest key only."""
        del self._pairs[service][1:]

    @property
    def public(self) -> str:
        """As `MESHBUS_SEALING_PUBLIC_KEYS` has it."""
        keys = {name: self._offered.get(name, pairs[0][0]) for name, pairs in self._pairs.items()}
        return ",".join(f"{name}={key}" for name, key in keys.items())

    def private(self, service: str) -> str:
        """As `MESHBUS_SEALING_PRIVATE_KEY` of the service has it; "" for one without a key."""
        return ",".join(secret for _, secret in self._pairs.get(service, []))

    def environment(self, service: str) -> dict[str, str]:
        """Both variables of a service's process."""
        variables = {"MESHBUS_SEALING_PUBLIC_KEYS": self.public}
        if private := self.private(service):
            variables["MESHBUS_SEALING_PRIVATE_KEY"] = private
        return variables

    def keys(self, *services: str) -> Keys:
        """What a process of these services seals with and opens with."""
        private = ",".join(self.private(service) for service in services)
        return Keys.of(
            ChassisSettings(sealing_public_keys=self.public, sealing_private_key=SecretStr(private))
        )
