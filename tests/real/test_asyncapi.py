"""The contract of the bus, held against the schema that AsyncAPI publishes of its own documents."""

from __future__ import annotations

import json
import tarfile

import jsonschema_rs

from deploy import vendoring
from docs import asyncapi

SPECIFICATION = vendoring.Package(
    "@asyncapi/specs",
    "6.11.1",
    "A3WBLqAKGoJ2+6FWFtpjBlCQ1oFCcs4GxF7zsIGvNqp/klGUHjlA3aAcZ9XMMpLGE8zPeYDz2x9FmO6DSuKraQ==",
)
SCHEMA = "package/schemas/3.0.0-without-$id.json"


def test_it_is_valid_asyncapi() -> None:
    with tarfile.open(vendoring.fetched(SPECIFICATION)) as archive:
        file = archive.extractfile(SCHEMA)
        assert file is not None
        validator = jsonschema_rs.validator_for(json.load(file))
    document = asyncapi.document()
    assert [str(error) for error in validator.iter_errors(document)] == []
    # The schema is not one that takes anything.
    document["operations"]["gateway-send-command"]["action"] = "publish"
    assert not validator.is_valid(document)
