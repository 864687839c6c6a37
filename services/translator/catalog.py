"""The operations that the translator offers, by the names, categories and texts that Meshery shows.

The first ones are the older adapter's; the traffic intents are those that it had until its version
0.4 and its users have missed since.
"""

from __future__ import annotations

from services.chassis.messages import AdvertisedOperation, Category, Command, SlotKind, Verb
from services.translator.conformance import run_conformance
from services.translator.intents import routing
from services.translator.intents.operations import (
    POLICY,
    Routing,
    Words,
    deny_all,
    limit_image_hub,
    mutual_tls,
    route,
)
from services.translator.intents.policies import MutualTls
from services.translator.manifests import doing_custom, doing_design, run_custom, run_design
from services.translator.vetting import run_vet
from services.translator.work import Operation, Run

_ROUTING: tuple[tuple[str, str, Routing], ...] = (
    ("bookinfo-subsets", "BookInfo: subsets by version", routing.subsets),
    ("bookinfo-route-version", "BookInfo: all requests to one version", routing.to_version),
    ("bookinfo-route-weights", "BookInfo: requests shared by weight", routing.by_weight),
    ("bookinfo-delay", "BookInfo: inject a delay", routing.delayed),
    ("bookinfo-abort", "BookInfo: inject failures", routing.aborted),
    ("bookinfo-mirror", "BookInfo: mirror requests", routing.mirrored),
    ("bookinfo-retries", "BookInfo: retry failed requests", routing.retried),
    ("bookinfo-circuit-breaking", "BookInfo: circuit breaking", routing.circuit_broken),
)


def offered() -> dict[str, Operation]:
    """Operation by name."""
    operations = [
        Operation(_advertised("custom", "Custom YAML", Category.CUSTOM), run_custom, doing_custom),
        Operation(
            # Meshery asks for it by RPCs of their own, ProcessOAM and Provision.
            _advertised("design", "Meshery design", Category.CUSTOM, is_listed=False),
            run_design,
            doing_design,
        ),
        _policy("deny-all-policy-operation", "Policy: Deny-All", deny_all),
        _policy(
            "strict-mtls-policy-operation", "Policy: Strict MTLS", mutual_tls(MutualTls.STRICT)
        ),
        _policy(
            "mutual-mtls-policy-operation", "Policy: Mutual MTLS", mutual_tls(MutualTls.PERMISSIVE)
        ),
        _policy(
            "disable-mtls-policy-operation", "Policy: Disable MTLS", mutual_tls(MutualTls.DISABLE)
        ),
        Operation(
            _advertised("envoy-filter-operation", "Envoy Filter for Image Hub", Category.CONFIGURE),
            limit_image_hub,
            Words("Envoy filter").failing,
        ),
        Operation(
            _advertised(
                "smi_conformance", "SMI Conformance", Category.VALIDATE, judges_objects=False
            ),
            run_conformance,
            lambda _command: "running the Smi conformance test",
        ),
        Operation(
            _advertised(
                "istio-vet",
                "Analyze Running Configuration",
                Category.VALIDATE,
                judges_objects=False,
            ),
            run_vet,
            lambda _command: "analyzing the running configuration",
        ),
        *(_traffic(name, description, intent) for name, description, intent in _ROUTING),
    ]
    return {operation.advertised.name: operation for operation in operations}


def _policy(name: str, description: str, run: Run) -> Operation:
    return Operation(_advertised(name, description, Category.CONFIGURE), run, POLICY.failing)


def _traffic(name: str, description: str, intent: Routing) -> Operation:
    words = Words(description)

    def doing(command: Command) -> str:
        return f"{'removing' if command.verb is Verb.DELETE else 'deploying'} {name}"

    return Operation(
        _advertised(name, description, Category.CONFIGURE), route(intent, words), doing
    )


def _advertised(
    name: str,
    description: str,
    category: Category,
    *,
    is_listed: bool = True,
    judges_objects: bool = True,
) -> AdvertisedOperation:
    """Most make plans of objects, which lifecycle judges one by one."""
    return AdvertisedOperation(
        name=name,
        description=description,
        category=category,
        slot=SlotKind.APPLY,
        is_listed=is_listed,
        judges_objects=judges_objects,
    )
