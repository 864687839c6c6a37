"""Values that JSON can carry, and how many there are in one."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_TEXTS = st.text(
    st.characters(
        codec="utf-8",
        exclude_categories=["Cc", "Cs"],
        exclude_characters="\x85\u2028\u2029\ufeff\ufffe\uffff",
    ),
    max_size=8,
) | st.sampled_from(
    [
        "yes",
        "1e3",
        "0o17",
        "y",
        "~",
        "",
        "<<",
        "=",
        "1:30",
        "2024-01-01",
        '"',
        "\\",
        'a\\"b',
        ",[{:",
        "- a",
        "# b",
    ]
)
_NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(
    allow_nan=False, allow_infinity=False, width=32
).filter(lambda number: not number.is_integer())


def values() -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | _NUMBERS | _TEXTS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
        max_leaves=20,
    )


def count_of(value: Any) -> int:
    """Keys, scalars, lists and mappings."""
    if isinstance(value, dict):
        return 1 + sum(1 + count_of(part) for part in value.values())
    return 1 + sum(map(count_of, value)) if isinstance(value, list) else 1
