"""The console before living services and a cluster that is changed under it: a mistake is a finding
until it is mended, and compliance follows the policies."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from tests.testbed.clusters import Cluster
from tests.testbed.seeing import Seeing
from tests.testbed.shops import (
    applied,
    istio_defined,
    listed,
    opened,
    virtual_service,
    workload,
)
from tests.testbed.waiting import eventually

SPACE = "default"
APP, TEAM = "vault", "guards"
KINDS = ("VirtualService", "PeerAuthentication", "AuthorizationPolicy")


@pytest.fixture(scope="module", autouse=True)
def kinds(cluster: Cluster) -> Iterator[None]:
    with istio_defined(cluster, KINDS):
        yield


async def test_a_mistake_is_a_finding_until_it_is_mended(
    page: Page, seen: Seeing, cluster: Cluster
) -> None:
    await page.goto(f"{seen.url}/findings?q=astray")
    await expect(page.locator("#view")).to_contain_text("Nothing like this is wrong")
    await page.evaluate("() => { window.sameness = true; }")
    note = page.locator(".group .note").filter(has_text="IST0101")
    before = datetime.now(timezone.utc)
    with applied(cluster, json.dumps(virtual_service("astray", SPACE, "nowhere"))):
        await expect(note).to_have_count(1)
        for text in ("VirtualService default/astray", "nowhere", "Cause", "Remedy", "since"):
            await expect(note).to_contain_text(text)
        began = await note.locator("time").get_attribute("datetime")
        assert before <= datetime.fromisoformat(began or "") <= datetime.now(timezone.utc)
        await note.locator("summary").click()
        await expect(note.locator("mark")).to_have_text("host: nowhere")
        mended = json.dumps(virtual_service("astray", SPACE, "kubernetes"))
        cluster.kubectl("apply", "--server-side", "-f", "-", stdin=mended)
        await expect(note).to_have_count(0)
    assert await page.evaluate("() => window.sameness === true")


def _vault() -> list[dict[str, Any]]:
    """A workload with a proxy, which kwok makes ready."""
    account, deployment = workload(APP, SPACE, labels={"app": APP, "team": TEAM})
    proxy = {"name": "istio-proxy", "image": "docker.io/istio/proxyv2:1.31.0"}
    deployment["spec"]["template"]["spec"]["containers"].append(proxy)
    return [account, deployment]


def _policies() -> str:
    """Nothing in plain text, and nobody but who is named."""
    metadata = {"name": APP, "namespace": SPACE}
    chosen = {"selector": {"matchLabels": {"app": APP}}}
    rules = [{"from": [{"source": {"namespaces": ["shop"]}}]}]
    return listed(
        *(
            {
                "apiVersion": "security.istio.io/v1",
                "kind": kind,
                "metadata": metadata,
                "spec": chosen | spec,
            }
            for kind, spec in (
                ("PeerAuthentication", {"mtls": {"mode": "STRICT"}}),
                ("AuthorizationPolicy", {"action": "ALLOW", "rules": rules}),
            )
        )
    )


async def test_compliance_follows_the_policies(
    page: Page, seen: Seeing, token: str, cluster: Cluster
) -> None:
    async def kept(passing: int) -> bool:
        """Whether what is kept over time has so many strict workloads of the team."""
        since = datetime.now(timezone.utc).isoformat()
        told = await seen.ask("compliance", cluster=token, since=since, by="team")
        lines = [one["points"][-1] for one in told["lines"] if one["key"] == TEAM]
        return [one["passing"].get("mtls", 0) for one in lines if one] == [passing]

    async def shown() -> None:
        """Asks anew, as whoever looks elsewhere and comes back."""
        await page.get_by_role("navigation").get_by_role("link", name="Fleet").click()
        await expect(page.locator(".card").first).to_be_visible()
        await page.go_back()
        await expect(page.locator("h1")).to_have_text("Compliance")

    over_time = page.get_by_role("region", name="Over time").locator(".legend li")
    rows = page.get_by_role("group", name="Workloads").locator("tbody tr")
    with opened(cluster, *_vault()):
        await eventually(lambda: kept(0), what="the workload to be kept")
        await page.goto(f"{seen.url}/compliance?by=team&group={TEAM}&q={APP}&range=24h")
        await _has(rows, "permissive", "open")
        await expect(over_time).to_have_text([f"{TEAM} 0 %"])
        with applied(cluster, _policies()):
            await eventually(lambda: kept(1), what="the policies to be kept")
            await shown()
            await _has(rows, f"{SPACE}/{APP}", TEAM, "strict", "denied", f"ALLOW {APP}", "1 of 1")
            await expect(over_time).to_have_text([f"{TEAM} 100 %"])
            for by in ("cluster", "namespace"):
                await page.get_by_role("search").locator("select").select_option(by)
                row = page.get_by_role("group", name=f"By {by}").locator("tbody tr")
                await expect(row.locator("td").nth(3)).to_have_text("1")
            await _is_on_paper_and_in_files(page, seen)
        await eventually(lambda: kept(0), what="their end to be kept")
        await shown()
        await _has(rows, "permissive", "open")


async def _has(rows: Locator, *texts: str) -> None:
    await expect(rows).to_have_count(1)
    for text in texts:
        await expect(rows).to_contain_text(text)


async def _is_on_paper_and_in_files(page: Page, seen: Seeing) -> None:
    async with page.expect_download() as told:
        await page.get_by_role("link", name="CSV", exact=True).click()
    with (await (await told.value).path()).open() as file:
        [line] = [one for one in csv.DictReader(file) if one["name"] == APP]
    assert (line["team"], line["mTLS"]) == (TEAM, "STRICT"), line
    status, text = await seen.get("/compliance.json")
    assert status == 200
    workloads = json.loads(text)["clusters"][0]["workloads"]
    [found] = [one for one in workloads if one["name"] == APP]
    assert (found["mtls"]["mode"], found["access"]) == ("STRICT", "denied")
    await page.emulate_media(media="print")
    for name in ("Workloads", "By namespace"):
        await expect(page.get_by_role("group", name=name).locator("tbody tr")).to_be_visible()
    await expect(page.locator("#compliance-search")).not_to_be_visible()
    await page.emulate_media(media="screen")
