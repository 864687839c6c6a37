"""Sources that lifecycle keeps, as the translator alone can open them."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import structlog
from pydantic import ValidationError

from services.chassis.bus import envelopes
from services.chassis.bus.connection import Bus
from services.chassis.bus.records import Bucket
from services.chassis.errors import InvalidMessage
from services.chassis.messages import Command, Followed
from services.chassis.messages.following import following_key
from services.chassis.reading.jsons import read_json
from services.translator.following import Kept

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FollowedSources:
    """The bucket `following`, by direct reads of single keys."""

    bus: Bus

    async def find(self, cluster: str, source: str) -> Kept | None:
        """None for a source that nobody follows any more. Raises `SealingKeyMissing` for one that
        was sealed to another key, and `InvalidMessage` for one of another version of ours."""
        entry = await Bucket(self.bus, "following").get(following_key(cluster, source))
        if entry is None:
            return None
        try:
            record = Followed.model_validate(read_json(entry.value))
            body = base64.b64decode(record.command)
        except (ValueError, ValidationError, binascii.Error):
            raise InvalidMessage("the record of a followed source cannot be read") from None
        headers = {envelopes.CONTENT_ENCODING: record.encoding} if record.encoding else {}
        sent = envelopes.decode(Command, body, headers, keys=self.bus.keys)
        return Kept(record, entry.revision, sent)
