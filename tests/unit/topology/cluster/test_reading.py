"""Reading objects: what people write freely may be of any form."""

from __future__ import annotations

import pytest

from services.topology.cluster import kinds
from services.topology.cluster.objects import Config
from services.topology.cluster.reading import Reader


@pytest.mark.parametrize("text", ["a: 2026-13-45", "{", "- a", "[" * 5000])
def test_settings_that_are_no_yaml_are_left_out(text: str) -> None:
    obj = {
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": text, "values": "global: {}"},
    }
    found = Reader().read(kinds.CONFIG_MAP, obj)
    assert isinstance(found, Config)
    assert found.spec["values"] == {"global": {}}
