"""From a request to objects: the overlay's text, what is cached under which key, and the labels."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.chassis.errors import OverlayMalformed, RenderFailed
from services.chassis.kube.objects import Ref
from services.lifecycle.adapters.rendered import RenderedFolder
from services.lifecycle.cluster import istio
from services.lifecycle.manifests.objects import PlannedObject
from services.lifecycle.mesh.rendering import RenderedMesh, Rendering, overlay_for
from services.lifecycle.mesh.requests import MeshRequest

HUB = "docker.io/istio"
DEFAULT = MeshRequest()
CANARY = MeshRequest(revision="canary", revision_given=True)


def spec(request: MeshRequest, *tags: str) -> dict[str, Any]:
    operator: dict[str, Any] = orjson.loads(overlay_for(request, tags=tags, hub=HUB))
    return dict(operator["spec"])


# ---- The overlay ---------------------------------------------------------------------------------


def test_the_defaults_are_an_overlay() -> None:
    assert orjson.loads(overlay_for(DEFAULT, tags=(), hub=HUB)) == {
        "apiVersion": "install.istio.io/v1alpha1",
        "kind": "IstioOperator",
        "metadata": {"namespace": "istio-system"},
        "spec": {"profile": "default", "hub": HUB, "values": {"defaultRevision": "default"}},
    }


def test_what_the_request_says_goes_in() -> None:
    request = replace(
        CANARY, profile="demo", namespace="mesh", overlay={"tag": "x", "values": {"a": {"b": 1}}}
    )
    operator = orjson.loads(overlay_for(request, tags=(), hub=HUB))
    assert operator["metadata"] == {"namespace": "mesh"}
    assert operator["spec"] == {
        "profile": "demo",
        "hub": HUB,
        "tag": "x",
        "revision": "canary",
        "values": {
            "a": {"b": 1},
            "defaultRevision": "",
            # The charts take the namespace from here.
            "global": {"istioNamespace": "mesh"},
        },
    }


def test_the_request_s_own_hub_wins() -> None:
    assert spec(replace(DEFAULT, overlay={"hub": "own"}))["hub"] == "own"


@pytest.mark.parametrize(
    ("request_", "tags", "default_revision"),
    [
        pytest.param(DEFAULT, (), "default", id="unnamed"),
        pytest.param(DEFAULT, ("default",), "default", id="unnamed with the default tag"),
        pytest.param(CANARY, (), "", id="named"),
        pytest.param(CANARY, ("prod",), "", id="named with another tag"),
        pytest.param(CANARY, ("prod", "default"), "canary", id="named with the default tag"),
    ],
)
def test_the_default_validator_goes_with_the_default_tag(
    request_: MeshRequest, tags: tuple[str, ...], default_revision: str
) -> None:
    assert spec(request_, *tags)["values"].get("defaultRevision") == default_revision


def test_the_request_s_own_default_revision_wins() -> None:
    own = replace(DEFAULT, overlay={"values": {"defaultRevision": ""}})
    assert spec(own)["values"]["defaultRevision"] == ""


def test_tags_are_sorted() -> None:
    assert spec(CANARY, "prod", "default", "a")["values"]["revisionTags"] == [
        "a",
        "default",
        "prod",
    ]
    assert "revisionTags" not in spec(CANARY)["values"]
    one, other = (overlay_for(CANARY, tags=tags, hub=HUB) for tags in (("a", "b"), ("b", "a")))
    assert one == other


def test_the_request_stays_as_it_is() -> None:
    request = replace(CANARY, overlay={"values": {"global": {"network": "one"}}, "components": {}})
    before = copy.deepcopy(request)
    overlay_for(request, tags=("default", "a"), hub=HUB)
    assert request == before


@pytest.mark.parametrize("values", [[], "text", 7, None])
def test_values_must_be_a_mapping(values: object) -> None:
    with pytest.raises(OverlayMalformed, match=r"spec\.values"):
        overlay_for(replace(DEFAULT, overlay={"values": values}), tags=(), hub=HUB)


# ---- The cache -----------------------------------------------------------------------------------

TEXT = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: gateways.networking.istio.io
  labels: {helm.sh/chart: base-1.31.0}
---
# Source: nothing here
---

---
apiVersion: v1
kind: ConfigMap
metadata:
  name: istio
  namespace: istio-system
  annotations: {note: kept}
data:
  mesh: |
    a: b
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: last
data:
  mesh: |+
    c: d

"""


@dataclass
class Recorded:
    """A renderer that always has the same text, and remembers what it was asked."""

    text: str = TEXT
    asked: list[tuple[str, bytes]] = field(default_factory=list)
    failures: int = 0

    async def __call__(self, version: str, overlay: bytes) -> str:
        self.asked.append((version, overlay))
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise RenderFailed("istioctl does not accept the values")
        return self.text


async def rendered(
    rendering: Rendering,
    request: MeshRequest = DEFAULT,
    *,
    version: str = "1.31.0",
    tags: tuple[str, ...] = (),
) -> RenderedMesh:
    return await rendering.mesh(request, version=version, tags=tags)


async def test_the_manifest_becomes_labelled_objects() -> None:
    mesh = await rendered(Rendering(Recorded(), HUB), CANARY)
    crd, config, last = mesh.objects
    assert mesh.version == "1.31.0"
    assert str(crd.ref) == "CustomResourceDefinition gateways.networking.istio.io"
    assert config.ref == Ref("v1", "ConfigMap", "istio-system", "istio")
    assert (crd.component, config.component) == ("Base", "Pilot")
    assert istio.REVISION not in dict(crd.labels)
    assert dict(config.labels)[istio.REVISION] == "canary"
    assert dict(config.annotations) == {"note": "kept"}
    assert orjson.loads(config.body)["data"] == {"mesh": "a: b\n"}
    assert orjson.loads(last.body)["data"] == {"mesh": "c: d\n\n"}
    assert len({one.digest for one in mesh.objects}) == 3


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(replace(DEFAULT, force=True), id="force"),
        pytest.param(replace(DEFAULT, purge=True), id="purge"),
        pytest.param(replace(DEFAULT, tags=()), id="tags that the caller settled"),
        pytest.param(replace(DEFAULT, revision_given=True), id="the unnamed revision by name"),
        pytest.param(replace(DEFAULT, overlay={"hub": HUB}), id="the hub that is set anyway"),
        pytest.param(replace(DEFAULT, overlay={"values": {}}), id="empty values"),
    ],
)
async def test_what_does_not_change_the_text_is_rendered_once(request_: MeshRequest) -> None:
    recorded = Recorded()
    rendering = Rendering(recorded, HUB)
    first = await rendered(rendering)
    assert await rendered(rendering, request_) is first
    assert len(recorded.asked) == 1


@pytest.mark.parametrize(
    ("request_", "version", "tags"),
    [
        pytest.param(DEFAULT, "1.30.0", (), id="version"),
        pytest.param(DEFAULT, "1.31.0", ("prod",), id="tags"),
        pytest.param(CANARY, "1.31.0", (), id="revision"),
        pytest.param(replace(DEFAULT, profile="demo"), "1.31.0", (), id="profile"),
        pytest.param(replace(DEFAULT, namespace="mesh"), "1.31.0", (), id="namespace"),
        pytest.param(replace(DEFAULT, overlay={"hub": "own"}), "1.31.0", (), id="hub"),
        pytest.param(replace(DEFAULT, overlay={"values": {"a": 1}}), "1.31.0", (), id="values"),
    ],
)
async def test_what_changes_the_text_or_the_labels_is_rendered_anew(
    request_: MeshRequest, version: str, tags: tuple[str, ...]
) -> None:
    recorded = Recorded()
    rendering = Rendering(recorded, HUB)
    first = await rendered(rendering)
    second = await rendered(rendering, request_, version=version, tags=tags)
    assert len(recorded.asked) == 2
    assert second.version == version
    labels = dict(second.objects[1].labels)
    assert labels[istio.VERSION] == version
    assert labels[istio.REVISION] == request_.revision
    assert labels[istio.OWNER_NAMESPACE] == request_.namespace
    # The first one's objects are untouched by the second's labels.
    assert dict(first.objects[1].labels)[istio.VERSION] == "1.31.0"


async def test_a_document_that_two_meshes_share_is_read_once() -> None:
    rendering = Rendering(Recorded(), HUB)
    first = await rendered(rendering)
    second = await rendered(rendering, replace(DEFAULT, profile="demo"))
    assert all(a is b for a, b in zip(first.objects, second.objects, strict=True))


async def test_requests_at_the_same_moment_share_one_rendering() -> None:
    recorded = Recorded()
    rendering = Rendering(recorded, HUB)
    meshes = await asyncio.gather(*(rendered(rendering) for _ in range(5)))
    assert len(recorded.asked) == 1
    assert all(mesh is meshes[0] for mesh in meshes)


async def test_a_failure_is_not_remembered() -> None:
    recorded = Recorded(failures=1)
    rendering = Rendering(recorded, HUB)
    with pytest.raises(RenderFailed):
        await rendered(rendering)
    assert len((await rendered(rendering)).objects) == 3
    assert len(recorded.asked) == 2


async def test_the_memory_is_bounded_and_forgets_the_oldest() -> None:
    recorded = Recorded()
    rendering = Rendering(recorded, HUB)
    first = await rendered(rendering)
    for number in range(20):
        await rendered(rendering, replace(DEFAULT, overlay={"values": {"a": number}}))
        assert await rendered(rendering) is first, "what is used stays"
    await rendered(rendering, replace(DEFAULT, overlay={"values": {"a": 0}}))
    assert len(recorded.asked) == 22


# --- over restarts -------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path) -> RenderedFolder:
    program = tmp_path / "distributions" / "1.31.0" / "bin" / "istioctl"
    program.parent.mkdir(parents=True)
    program.write_text("first")
    return RenderedFolder(tmp_path / "rendered", tmp_path / "distributions")


async def test_a_worker_that_was_just_started_renders_nothing_again(kept: RenderedFolder) -> None:
    first = await rendered(Rendering(Recorded(), HUB, kept), CANARY)
    recorded = Recorded()
    assert await rendered(Rendering(recorded, HUB, kept), CANARY) == first
    assert recorded.asked == []
    assert await rendered(Rendering(recorded, HUB, kept), DEFAULT) != first
    assert len(recorded.asked) == 1


async def test_another_istioctl_renders_anew(kept: RenderedFolder) -> None:
    await rendered(Rendering(Recorded(), HUB, kept))
    (kept.distributions / "1.31.0" / "bin" / "istioctl").write_text("second")
    recorded = Recorded()
    await rendered(Rendering(recorded, HUB, kept))
    assert len(recorded.asked) == 1


async def test_what_a_user_has_laid_over_is_on_no_disk(kept: RenderedFolder) -> None:
    request = replace(DEFAULT, overlay={"values": {"secret": "canary-of-a-secret"}})
    mesh = await rendered(Rendering(Recorded(), HUB, kept), request)
    assert len(mesh.objects) == 3
    assert not kept.folder.exists()


@pytest.mark.parametrize("text", [b"", b"[{", b"{}", b"[1]", b"\xff"])
async def test_a_file_that_cannot_be_read_is_as_none(kept: RenderedFolder, text: bytes) -> None:
    first = await rendered(Rendering(Recorded(), HUB, kept))
    (file,) = kept.folder.iterdir()
    file.write_bytes(text)
    assert await rendered(Rendering(Recorded(), HUB, kept)) == first
    assert await rendered(Rendering(Recorded(failures=1), HUB, kept)) == first, "it was kept anew"


async def test_a_folder_that_cannot_be_written_keeps_nothing(kept: RenderedFolder) -> None:
    kept.folder.write_text("no folder")
    assert len((await rendered(Rendering(Recorded(), HUB, kept))).objects) == 3


async def test_the_folder_is_bounded_and_holds_nothing_half(kept: RenderedFolder) -> None:
    rendering = Rendering(Recorded(), HUB, kept)
    for number in range(40):
        await rendered(rendering, replace(DEFAULT, namespace=f"mesh-{number}"))
    files = list(kept.folder.iterdir())
    assert len(files) == 32
    assert {file.suffix for file in files} == {".json"}


def test_one_object_has_one_digest() -> None:
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": "b"}}
    changed = {**obj, "data": {"a": "c"}}
    assert PlannedObject.of(obj) == PlannedObject.of(copy.deepcopy(obj))
    assert PlannedObject.of(obj).digest != PlannedObject.of(changed).digest
    assert PlannedObject.of(obj).labels == ()
