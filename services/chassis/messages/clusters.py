"""What the bucket `clusters` holds."""

from __future__ import annotations

from datetime import datetime, timezone

from pydantic import Field

from services.chassis.messages.models import Message


class ClusterRecord(Message):
    """A registered cluster: the value of `clusters/<cluster>`. It holds no credential."""

    cluster: str
    name: str
    """What people call it: the kubeconfig's context."""
    server: str
    registered: datetime = Field(default_factory=lambda: datetime.now(timezone.utc))
