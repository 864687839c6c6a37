"""Reading objects: what people write freely may be of any form."""

from __future__ import annotations

import time

import pytest

from services.topology.cluster import kinds
from services.topology.cluster.objects import Config
from services.topology.cluster.reading import Reader


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: 2026-13-45", id="no date"),
        pytest.param("{", id="not ended"),
        pytest.param("- a", id="list"),
        pytest.param("[" * 5000, id="deep"),
        pytest.param("a: &a [x]\nb: *a", id="alias"),
        pytest.param("a: [" + "[]," * 340_000 + "[]]", id="bomb"),
    ],
)
def test_settings_that_are_no_yaml_are_left_out(text: str) -> None:
    obj = {
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": text, "values": "global: {}"},
    }
    began = time.process_time()
    found = Reader().read(kinds.CONFIG_MAP, obj)
    assert time.process_time() - began < 1.0
    assert isinstance(found, Config)
    assert found.spec["values"] == {"global": {}}
