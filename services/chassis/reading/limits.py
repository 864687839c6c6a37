"""How much one text may hold, and what is left of it while the text is read."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.chassis.errors import TooManyValues
from services.chassis.settings import ChassisSettings


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one text; the defaults are those of the settings."""

    nodes: int = ChassisSettings.model_fields["read_nodes"].default
    """Keys, scalars, lists and mappings together."""
    depth: int = ChassisSettings.model_fields["read_depth"].default
    """Lists and mappings inside each other."""
    inflated_bytes: int = ChassisSettings.model_fields["read_inflated_bytes"].default
    """Of a compressed body, when it is not compressed any more."""

    @classmethod
    def of(cls, settings: ChassisSettings) -> Limits:
        return cls(settings.read_nodes, settings.read_depth, settings.read_inflated_bytes)


_limits = Limits()


def limits() -> Limits:
    """Those of this process."""
    return _limits


def use(chosen: Limits) -> None:
    """Makes them this process' own; a service does it once, before it reads anything."""
    global _limits
    _limits = chosen


@dataclass(slots=True)
class Budget:
    """What is left to be read."""

    nodes: int
    depth: int
    is_shared: bool = False
    """True for several texts of one request, which are counted together."""
    is_trusted: bool = False
    """True for what Meshbus ships or its own tools have rendered: there YAML may have aliases."""
    whole: int = field(init=False)
    """With how many nodes it began."""

    def __post_init__(self) -> None:
        self.whole = self.nodes

    @classmethod
    def fresh(
        cls, *, nodes: int | None = None, depth: int | None = None, is_shared: bool = False
    ) -> Budget:
        """That of the settings, but for what is given."""
        most = limits()
        return cls(
            nodes=most.nodes if nodes is None else nodes,
            depth=most.depth if depth is None else depth,
            is_shared=is_shared,
        )

    @classmethod
    def trusted(cls) -> Budget:
        """Without bounds."""
        return cls(nodes=1 << 40, depth=1000, is_trusted=True)

    def spend(self, nodes: int, *, line: int = 0) -> None:
        """Takes `nodes` away; raises `TooManyValues` when there are not so many left."""
        self.nodes -= nodes
        if self.nodes < 0:
            raise self.exceeded(line=line)

    def exceeded(self, *, line: int = 0) -> TooManyValues:
        place = f" (at line {line})" if line else ""
        return TooManyValues(f"the text holds more than {self.whole} values{place}")
