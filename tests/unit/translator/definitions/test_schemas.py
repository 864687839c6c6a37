"""Definitions: which kinds there are is known at once, the rest when it is asked for."""

from __future__ import annotations

import threading

import pytest

from services.chassis.errors import SchemasMissing
from services.translator.definitions.schemas import Definition, Schemas
from services.translator.istio.versions import by_priority
from tests.unit.translator.definitions.samples import GROUP, definition

PRINTED = """\
# Made by a tool
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  annotations:
    kind: Wrong
  name: widgets.parts.example
spec:
  group: parts.example
  names:
    categories:
    - all
    kind: Widget
    listKind: WidgetList
    plural: widgets
  scope: Cluster
  versions:
  - name: v1alpha1
    served: true
    storage: false
    schema:
      openAPIV3Schema:
        type: object
        description: |
          kind: Wrong
        properties:
          spec:
            type: object
            properties:
              description:
                description: prose
                type: string
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              description:
                type: string
  - name: v2alpha1
    served: false
    storage: false
    schema:
      openAPIV3Schema:
        type: object
---
apiVersion: v1
kind: ConfigMap
metadata: {name: x}
---
"""


def found(schemas: Schemas, group: str, kind: str) -> Definition:
    definition_ = schemas.find(group, kind)
    assert definition_ is not None
    return definition_


def test_kinds_are_known_without_parsing() -> None:
    broken = PRINTED.replace("openAPIV3Schema:", "openAPIV3Schema: [")

    assert Schemas.read([broken]).kinds() == {("parts.example", "Widget")}


def test_what_a_definition_says() -> None:
    widget = found(Schemas.read([PRINTED]), "parts.example", "Widget")

    assert (widget.group_kind, widget.plural) == (("parts.example", "Widget"), "widgets")
    assert not widget.namespaced
    assert widget.versions == ("v1", "v1alpha1")
    assert widget.storage == "v1"
    assert set(widget.schemas) == {"v1", "v1alpha1", "v2alpha1"}


def test_prose_is_dropped_and_fields_called_so_are_kept() -> None:
    schemas = Schemas.read([PRINTED])
    widget = found(schemas, "parts.example", "Widget")
    spec = {"type": "object", "properties": {"description": {"type": "string"}}}

    assert widget.schemas["v1"] == {"type": "object", "properties": {"spec": spec}}
    assert widget.schemas["v1"] is widget.schemas["v1alpha1"]
    assert schemas.compiled(widget, "v1") is schemas.compiled(widget, "v1alpha1")


def test_several_texts_and_other_ways_to_write_them() -> None:
    schemas = Schemas.read([PRINTED, definition({"type": "object"})])

    assert schemas.kinds() == {("parts.example", "Widget"), (GROUP, "Thing")}
    assert schemas.kinds_of(GROUP) == ("Thing",)
    assert found(schemas, GROUP, "Thing").plural == "things"


def test_the_last_definition_of_a_kind_counts() -> None:
    texts = [definition({"type": "object"}, versions=(name,)) for name in ("v1", "v2")]

    assert found(Schemas.read(texts), GROUP, "Thing").versions == ("v2",)


def test_an_unknown_kind_is_none() -> None:
    schemas = Schemas.read([PRINTED])

    assert schemas.find("parts.example", "Gadget") is None
    assert schemas.find("", "Widget") is None
    assert schemas.kinds_of("nowhere.example") == ()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(PRINTED.replace("openAPIV3Schema:", "openAPIV3Schema: ["), id="no YAML"),
        pytest.param(PRINTED.replace("  scope: Cluster\n", ""), id="a field is missing"),
        pytest.param(PRINTED.replace("storage: true", "storage: false"), id="nothing is stored"),
        pytest.param(PRINTED.replace("  versions:\n", "  versions: 1\n  x:\n"), id="a wrong type"),
    ],
)
def test_a_damaged_definition_is_a_coded_error(text: str) -> None:
    schemas = Schemas.read([text])

    with pytest.raises(SchemasMissing, match="cannot be used") as caught:
        schemas.find("parts.example", "Widget")
    assert caught.value.code == "MB-5005"


def test_a_damaged_schema_is_a_coded_error() -> None:
    schemas = Schemas.read([definition({"type": "object", "properties": {"x": {"type": "wrong"}}})])

    with pytest.raises(SchemasMissing, match="cannot be used"):
        schemas.compiled(found(schemas, GROUP, "Thing"), "v1")


def test_many_threads_get_one_compiled_schema() -> None:
    schemas = Schemas.read([PRINTED])
    start, compiled = threading.Barrier(8), []

    def ask() -> None:
        start.wait()
        compiled.append(schemas.compiled(found(schemas, "parts.example", "Widget"), "v1"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(compiled) == 8
    assert len({id(schema) for schema in compiled}) == 1


def test_order_of_versions() -> None:
    mixed = ["v1alpha3", "v1beta1", "v2", "v11", "v1", "v1beta2", "v2alpha1", "foo", "bar", "v1"]

    assert by_priority(mixed) == (
        *("v11", "v2", "v1", "v1beta2", "v1beta1", "v2alpha1", "v1alpha3"),
        *("bar", "foo"),
    )
