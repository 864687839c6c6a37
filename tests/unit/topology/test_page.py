"""The page's own logic, tested in its own language: `services/topology/page/tests`."""

from __future__ import annotations

from deploy import bundling


def test_the_logic_of_the_page() -> None:
    bundling.tested()
