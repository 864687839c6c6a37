"""What the test bed is made of, as data: one `Program` for each Go module that it builds, and the
`Package`s that it takes from Debian.

Versions are chosen once, here. A program's cache folder is named by the hash of its entry, so a
changed recipe never runs an old binary and an unchanged one is never built twice.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

KUBERNETES_VERSION = "1.36.3"
ISTIO_VERSION = "1.31.0"
ISTIO_OLDER_VERSION = "1.30.3"

_ISTIO_MODULE = "istio.io/istio"
_ISTIO_COMMIT = "v0.0.0-20260827124520-eed52ebb66ad"
_ISTIO_OLDER_COMMIT = "v0.0.0-20260826214018-9739e10eb9d7"

# Kubernetes refers to its own staging modules by relative folders; a module outside its tree has to
# name the published ones instead.
_KUBERNETES_STAGING = [
    "api",
    "apiextensions-apiserver",
    "apimachinery",
    "apiserver",
    "cli-runtime",
    "client-go",
    "cloud-provider",
    "cluster-bootstrap",
    "code-generator",
    "component-base",
    "component-helpers",
    "controller-manager",
    "cri-api",
    "cri-client",
    "csi-translation-lib",
    "dynamic-resource-allocation",
    "endpointslice",
    "externaljwt",
    "kms",
    "kube-aggregator",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
    "metrics",
    "mount-utils",
    "pod-security-admission",
    "sample-apiserver",
    "sample-cli-plugin",
    "sample-controller",
    "streaming",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One Go module and the binaries built from it.

    `binaries` maps a binary's name to its package path ("" stands for our own `main_go`).
    `folders` maps a folder of the cache entry to a folder inside the module, copied beside the
    binaries (charts, samples, stages). `replaces` maps a module to `path@version`.
    """

    name: str
    module: str
    version: str
    binaries: dict[str, str]
    requires: dict[str, str] = field(default_factory=dict)
    replaces: dict[str, str] = field(default_factory=dict)
    ldflags: str = ""
    tags: str = ""
    main_go: str = ""
    folders: dict[str, str] = field(default_factory=dict)
    typical_seconds: int = 60

    @property
    def key(self) -> str:
        """Name and recipe hash: the folder of this program in the cache."""
        recipe = {k: v for k, v in asdict(self).items() if k != "typical_seconds"}
        digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
        return f"{self.name}-{digest[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A Debian package, for a program that need not be built."""

    name: str
    program: str
    """Path of the program that the package brings."""
    typical_seconds: int = 30


def _istio_ldflags(version: str) -> str:
    package = "istio.io/istio/pkg/version"
    return (
        f"-s -w -X {package}.buildVersion={version} -X {package}.buildTag={version} "
        f"-X {package}.buildHub=docker.io/istio -X {package}.buildStatus=Clean"
    )


_ETCD_MAIN = """package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
"""

_ISTIO_FOLDERS = {"manifests": "manifests", "samples": "samples"}

PROGRAMS: tuple[Program, ...] = (
    Program(
        name="etcd",
        module="go.etcd.io/etcd/server/v3",
        version="v3.6.14",
        binaries={"etcd": ""},
        main_go=_ETCD_MAIN,
        ldflags="-s -w",
        typical_seconds=20,
    ),
    Program(
        name="kubernetes",
        module="k8s.io/kubernetes",
        version=f"v{KUBERNETES_VERSION}",
        binaries={
            "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
            "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
            "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
        },
        replaces={
            f"k8s.io/{name}": f"k8s.io/{name}@v0.{KUBERNETES_VERSION.split('.', 1)[1]}"
            for name in _KUBERNETES_STAGING
        },
        # Without these three a client cannot parse the server's version.
        ldflags=(
            f"-s -w -X k8s.io/component-base/version.gitVersion=v{KUBERNETES_VERSION} "
            "-X k8s.io/component-base/version.gitMajor=1 "
            f"-X k8s.io/component-base/version.gitMinor={KUBERNETES_VERSION.split('.')[1]}"
        ),
        typical_seconds=420,
    ),
    Program(
        name="kwok",
        module="sigs.k8s.io/kwok",
        version="v0.8.0",
        binaries={"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
        folders={"stages": "kustomize/stage"},
        ldflags="-s -w",
        typical_seconds=65,
    ),
    Program(
        name="istioctl",
        module=_ISTIO_MODULE,
        version=_ISTIO_COMMIT,
        binaries={"istioctl": f"{_ISTIO_MODULE}/istioctl/cmd/istioctl"},
        folders=_ISTIO_FOLDERS,
        ldflags=_istio_ldflags(ISTIO_VERSION),
        typical_seconds=285,
    ),
    Program(
        name="nats",
        module="github.com/nats-io/natscli",
        version="v0.4.0",
        binaries={"nats": "github.com/nats-io/natscli/nats"},
        ldflags="-s -w",
        typical_seconds=100,
    ),
    Program(
        name="istioctl-older",
        module=_ISTIO_MODULE,
        version=_ISTIO_OLDER_COMMIT,
        binaries={"istioctl": f"{_ISTIO_MODULE}/istioctl/cmd/istioctl"},
        folders=_ISTIO_FOLDERS,
        requires={
            "istio.io/api": "v1.31.0",
            "istio.io/client-go": "v1.31.0",
            "github.com/envoyproxy/go-control-plane/envoy": (
                "v1.37.1-0.20260713214202-ca8ce173c36f"
            ),
            "github.com/envoyproxy/go-control-plane/contrib": (
                "v1.36.1-0.20260713214202-ca8ce173c36f"
            ),
        },
        replaces={
            "github.com/agentgateway/agentgateway/api": (
                "github.com/agentgateway/agentgateway/api@v0.0.0-20260501213430-773586679f1c"
            ),
        },
        ldflags=_istio_ldflags(ISTIO_OLDER_VERSION),
        typical_seconds=250,
    ),
    Program(
        name="jaeger",
        module="github.com/jaegertracing/jaeger",
        version="v1.76.0",
        binaries={"jaeger": "github.com/jaegertracing/jaeger/cmd/all-in-one"},
        replaces={"github.com/Shopify/sarama": "github.com/Shopify/sarama@v1.33.0"},
        ldflags="-s -w",
        typical_seconds=120,
    ),
    Program(
        name="fortio",
        module="fortio.org/fortio",
        version="v1.66.5",
        binaries={"fortio": "fortio.org/fortio"},
        ldflags="-s -w",
        typical_seconds=15,
    ),
    Program(
        name="istiod",
        module=_ISTIO_MODULE,
        version=_ISTIO_COMMIT,
        binaries={"pilot-discovery": f"{_ISTIO_MODULE}/pilot/cmd/pilot-discovery"},
        ldflags=_istio_ldflags(ISTIO_VERSION),
        tags="vtprotobuf,disable_pgv",
        typical_seconds=180,
    ),
    Program(
        # Installs the chart as a user does.
        name="helm",
        module="helm.sh/helm/v3",
        version="v3.22.0",
        binaries={"helm": "helm.sh/helm/v3/cmd/helm"},
        # Without these it takes every cluster that it does not ask for one of 2020.
        ldflags="-s -w "
        + " ".join(
            f"-X helm.sh/helm/v3/pkg/{package}.k8sVersion{part}={number}"
            for package in ("chartutil", "lint/rules")
            for part, number in zip(
                ("Major", "Minor"), KUBERNETES_VERSION.split(".")[:2], strict=True
            )
        ),
        typical_seconds=120,
    ),
    Program(
        # Reads and checks a Compose file: the part of `docker compose config` that does.
        name="compose-spec",
        module="github.com/compose-spec/compose-go/v2",
        version="v2.16.2",
        binaries={"compose-spec": "github.com/compose-spec/compose-go/v2/cmd"},
        ldflags="-s -w",
        typical_seconds=10,
    ),
    Program(
        # No program: the Gateway API's definitions are files of its module.
        name="gateway-api",
        module="sigs.k8s.io/gateway-api",
        version="v1.6.0",
        binaries={},
        folders={"crds": "config/crd/standard"},
        typical_seconds=2,
    ),
    # Nor here: the definitions of what the chart may use.
    Program(
        name="keda",
        module="github.com/kedacore/keda/v2",
        version="v2.20.2",
        binaries={},
        folders={"crds": "config/crd/bases"},
        typical_seconds=5,
    ),
    Program(
        name="prometheus-operator",
        module="github.com/prometheus-operator/prometheus-operator",
        version="v0.85.0",
        binaries={},
        folders={"crds": "example/prometheus-operator-crd"},
        typical_seconds=5,
    ),
)

PACKAGES: tuple[Package, ...] = (
    # Debian's own build does; a build of its Go module would take minutes more.
    Package(name="prometheus", program="/usr/bin/prometheus"),
    # What builds images without an engine; `make test-full` does.
    Package(name="buildah", program="/usr/bin/buildah"),
    Package(name="mmdebstrap", program="/usr/bin/mmdebstrap", typical_seconds=10),
    # The browser that the tests of the topology's page drive.
    Package(name="chromium", program="/usr/bin/chromium", typical_seconds=60),
)

# Istio versions whose release layout (bin, manifests, samples) the bed offers, newest first.
DISTRIBUTIONS: dict[str, str] = {
    ISTIO_VERSION: "istioctl",
    ISTIO_OLDER_VERSION: "istioctl-older",
}
