"""The message bus: NATS with JetStream, used through our own pull workers, leases and records.

nats-py's ordered consumers, KV watches, object store reads and parked `fetch` calls break in ways
that services must not meet (docs/explanation/bus.md); nothing in this package uses them.
"""

# nats-py brings aiohttp, whose import is ours.
import services.chassis.http  # noqa: F401
