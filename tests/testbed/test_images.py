"""Archives of images in the cache, which several checkouts share."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.testbed import images
from tests.testbed.recipe import Image

_DAYS_S = 2 * 24 * 3600


def test_an_archive_stays_while_another_checkout_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    theirs, ours = (
        [Image(name="bed/one", command=("/one",), files={"/etc/whose": f"text:{whose}"})]
        for whose in ("theirs", "ours")
    )
    first = images.archive(theirs)
    second = images.archive(ours)
    assert first.exists()
    long_ago = time.time() - _DAYS_S
    for archive in (first, second):
        os.utime(archive, (long_ago, long_ago))
    assert images.archive(ours) == second
    third = images.archive([*theirs, *ours])
    assert [path.exists() for path in (first, second, third)] == [False, True, True]
