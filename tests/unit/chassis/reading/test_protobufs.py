"""Protocol buffers, counted by their top-level fields."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto import meshops_pb2 as pb
from services.chassis.errors import TooManyValues
from services.chassis.reading.protobufs import require_few_fields


@given(st.lists(st.text(max_size=300), min_size=1, max_size=40), st.booleans())
def test_each_part_is_a_field(texts: list[str], is_deletion: bool) -> None:
    message = pb.ApplyRuleRequest(kube_configs=texts, delete_op=is_deletion)
    body, fields = message.SerializeToString(), len(texts) + is_deletion
    require_few_fields(body, most=fields)
    if len(body) > 2 * (fields - 1):
        with pytest.raises(TooManyValues):
            require_few_fields(body, most=fields - 1)


def test_fields_that_nobody_knows_count() -> None:
    forms = (
        b"\x98\x06\x80\x01" + b"\x99\x06" + bytes(8) + b"\x9a\x06\x02ab" + b"\x9d\x06" + bytes(4)
    )
    assert pb.ApplyRuleRequest.FromString(forms)
    require_few_fields(forms, most=4)
    with pytest.raises(TooManyValues):
        require_few_fields(forms, most=3)


@pytest.mark.parametrize("part", [b"\x3a\x00", b"\x28\x01", b"\x3a\x01a"])
def test_millions_of_fields_cost_nothing(part: bytes) -> None:
    began = time.process_time()
    with pytest.raises(TooManyValues):
        require_few_fields(part * 5_000_000, most=10_000)
    assert time.process_time() - began < 0.5


@given(st.binary(max_size=200))
def test_what_is_no_message_is_left_to_the_parser(body: bytes) -> None:
    try:
        require_few_fields(body, most=5)
    except TooManyValues:
        assert len(body) > 10
