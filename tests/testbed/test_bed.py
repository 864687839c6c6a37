"""The bed itself: what the other tests stand on must hold, or their failures mean nothing."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from tests.testbed import loopback
from tests.testbed.bed import run_command
from tests.testbed.buses import NatsServer
from tests.testbed.clusters import Cluster
from tests.testbed.processes import BedError, DetachedProcess, Identity, Process, wait_until
from tests.testbed.proxies import FaultProxy
from tests.testbed.tracing import Jaeger

pytestmark = pytest.mark.usefixtures("built")

_REPOSITORY = Path(__file__).resolve().parents[2]
_LEASH = _REPOSITORY / "deploy" / "local" / "leash.py"

_DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: example.invalid/web}]}
"""

_WEBHOOK = """
apiVersion: v1
kind: Service
metadata: {name: nobody, namespace: default}
spec: {ports: [{port: 443}]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: nobody}
webhooks:
- name: nobody.example.invalid
  clientConfig: {service: {name: nobody, namespace: default}}
  rules: [{apiGroups: [""], apiVersions: [v1], resources: [configmaps], operations: [CREATE]}]
  matchConditions: [{name: checked, expression: object.metadata.name == "checked"}]
  sideEffects: None
  admissionReviewVersions: [v1]
"""

_PARENT = """
import sys
from pathlib import Path
from tests.testbed.processes import Process
child = Process("sleep", ["/bin/sleep", "600"], log=Path(sys.argv[1]))
child.start()
print(child.pid, flush=True)
sys.stdin.read()
"""

_TAKE_PORT = """
import sys
from tests.testbed import loopback
print(loopback.take_port(), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def echo_port() -> Iterator[int]:
    """Port of a server that sends back what it gets."""
    with socket.create_server((loopback.HOST, 0)) as listener:
        threading.Thread(target=_serve_echo, args=(listener,), daemon=True).start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


def _serve_echo(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection, suppress(OSError):
        while data := connection.recv(65_536):
            connection.sendall(data)


class TestCluster:
    def test_deployment_becomes_ready(self, cluster: Cluster) -> None:
        cluster.kubectl("create", "namespace", "rollout")

        cluster.kubectl("apply", "--namespace=rollout", "--filename=-", stdin=_DEPLOYMENT)
        cluster.kubectl(
            "rollout", "status", "deployment/web", "--namespace=rollout", "--timeout=30s"
        )

        found = json.loads(cluster.kubectl("get", "deploy/web", "-n", "rollout", "-o", "json"))
        assert found["status"]["readyReplicas"] == 3

    def test_objects_and_port_survive_the_death_of_the_apiserver(self, cluster: Cluster) -> None:
        cluster.kubectl("create", "namespace", "survivor")

        cluster.kill_apiserver()
        assert not cluster.api.is_ready
        cluster.start_apiserver()
        cluster.kubectl("apply", "--namespace=survivor", "--filename=-", stdin=_DEPLOYMENT)

        # The controllers and the simulated kubelet have found the server again as well.
        cluster.kubectl(
            "rollout", "status", "deployment/web", "--namespace=survivor", "--timeout=30s"
        )

    def test_token_kubeconfig_has_the_rights_of_its_role(
        self, cluster: Cluster, tmp_path: Path
    ) -> None:
        text = cluster.token_kubeconfig_text(account="reader", role="view")
        assert "client-key-data" not in text
        (tmp_path / "kubeconfig").write_text(text)
        reader = f"--kubeconfig={tmp_path / 'kubeconfig'}"

        assert "kubernetes" in cluster.kubectl(reader, "get", "services")
        with pytest.raises(BedError, match="forbidden"):
            cluster.kubectl(reader, "create", "namespace", "refused")

    def test_calls_to_services_do_not_leave_the_machine(self, cluster: Cluster) -> None:
        cluster.kubectl("apply", "--filename=-", stdin=_WEBHOOK)

        with pytest.raises(BedError, match=r"dial unix .*egress\.sock"):
            cluster.kubectl("create", "configmap", "checked", "--namespace=default")

        cluster.kubectl("delete", "validatingwebhookconfiguration", "nobody")

    def test_orderly_restart_is_quick(self, cluster: Cluster) -> None:
        cluster.apiserver.stop(grace_s=8.0)

        assert cluster.apiserver.popen.returncode == 0
        cluster.start_apiserver()

    def test_kubeconfig_through_a_proxy_fits_the_certificate(
        self, cluster: Cluster, tmp_path: Path
    ) -> None:
        upstream_port = int(cluster.server_url.rpartition(":")[2])
        with FaultProxy(upstream_port) as proxy:
            text = cluster.kubeconfig_through(f"https://{proxy.address}")
            (tmp_path / "kubeconfig").write_text(text)

            cluster.kubectl(f"--kubeconfig={tmp_path / 'kubeconfig'}", "get", "nodes")

            assert proxy.accepted_connections > 0


class TestProcesses:
    def test_killed_parent_leaves_no_child(self, tmp_path: Path) -> None:
        parent = subprocess.Popen(
            [sys.executable, "-c", _PARENT, str(tmp_path / "log")],
            cwd=_REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with parent:
            assert parent.stdout is not None
            child = Identity.of(int(parent.stdout.readline()), name="sleep")
            # Before that, the leash itself would notice that the parent is gone.
            _wait_for_exec(child)

            parent.send_signal(signal.SIGKILL)

        wait_until(lambda: not child.is_running, timeout_s=10.0, what="the child to be gone")

    def test_program_is_not_started_when_the_parent_is_gone_already(self) -> None:
        gone = subprocess.Popen(["/bin/true"])
        gone.wait()

        leash = subprocess.run(
            [sys.executable, "-I", "-S", str(_LEASH), str(gone.pid), "/bin/echo", "started"],
            capture_output=True,
            text=True,
            check=False,
        )

        assert leash.returncode == 1
        assert leash.stdout == ""

    def test_child_outlives_the_thread_that_asked_for_it(self, tmp_path: Path) -> None:
        child = Process("sleep", ["/bin/sleep", "600"], log=tmp_path / "log")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(child.start).result()
            _wait_for_exec(child)
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                child.popen.wait(0.2)
        finally:
            child.kill()

    def test_recorded_process_is_ended_and_no_other_with_its_pid(self, tmp_path: Path) -> None:
        record = tmp_path / "sleep.json"
        child = DetachedProcess("sleep", ["/bin/sleep", "600"], log=tmp_path / "log", record=record)
        child.start()
        identity = Identity.read(record)
        later = Identity(name="later", pid=identity.pid, started_ticks=identity.started_ticks + 1)

        later.end(grace_s=0.0)
        assert child.is_running
        identity.end(grace_s=5.0)

        assert child.popen.wait(5.0) == -signal.SIGTERM

    def test_paused_process_can_be_stopped(self, tmp_path: Path) -> None:
        child = Process("sleep", ["/bin/sleep", "600"], log=tmp_path / "log")
        child.start()
        _wait_for_exec(child)
        child.pause()

        child.stop(grace_s=5.0)

        assert child.popen.returncode == -signal.SIGTERM

    def test_failed_start_shows_the_log(self, tmp_path: Path) -> None:
        child = Process("cat", ["/bin/cat", "/does/not/exist"], log=tmp_path / "log")
        child.start()

        with pytest.raises(BedError, match="No such file"):
            wait_until(lambda: False, timeout_s=10.0, what="the cat", processes=[child])

    def test_port_is_not_given_to_two_test_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        other_run = subprocess.Popen(
            [sys.executable, "-c", _TAKE_PORT],
            cwd=_REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with other_run:
            assert other_run.stdout is not None
            port = int(other_run.stdout.readline())
            monkeypatch.setattr(loopback, "_LOWEST_PORT", port)
            monkeypatch.setattr(loopback, "_first_ephemeral_port", lambda: port + 1)

            with pytest.raises(OSError, match="no free TCP port"):
                loopback.take_port()
            other_run.kill()

        assert loopback.take_port() == port


def _wait_for_exec(child: Process | Identity) -> None:
    """Until the leash has become the program."""
    name = Path(f"/proc/{child.pid}/comm")
    wait_until(lambda: name.read_text().strip() == child.name, timeout_s=10.0, what="the exec")


class TestFaultProxy:
    def test_cut_resets_open_connections_and_accepts_new_ones(self, echo_port: int) -> None:
        with FaultProxy(echo_port) as proxy:
            with _connected(proxy) as client:
                assert _echoed(client, b"before") == b"before"

                proxy.cut()

                with pytest.raises(ConnectionResetError):
                    client.recv(1)
            with _connected(proxy) as client:
                assert _echoed(client, b"after") == b"after"

    def test_refuse_refuses_until_healed(self, echo_port: int) -> None:
        with FaultProxy(echo_port) as proxy:
            with _connected(proxy) as open_before:
                proxy.refuse()

                with pytest.raises(ConnectionRefusedError):
                    _connected(proxy)
                assert _echoed(open_before, b"still") == b"still"

                proxy.heal()
            with _connected(proxy) as client:
                assert _echoed(client, b"healed") == b"healed"

    def test_blackhole_holds_what_is_sent_until_healed(self, echo_port: int) -> None:
        with FaultProxy(echo_port) as proxy, _connected(proxy) as client:
            proxy.blackhole()
            client.settimeout(0.2)
            with pytest.raises(TimeoutError):
                _echoed(client, b"late")

            proxy.heal()

            client.settimeout(10.0)
            assert client.recv(100) == b"late"

    def test_cut_ends_what_a_blackhole_holds(self, echo_port: int) -> None:
        with FaultProxy(echo_port) as proxy, _connected(proxy) as client:
            wait_until(lambda: proxy.open_connections == 1, timeout_s=10.0, what="a connection")
            proxy.blackhole()
            client.sendall(b"lost")

            proxy.cut()

            wait_until(lambda: proxy.open_connections == 0, timeout_s=10.0, what="the end")

    def test_large_transfer_arrives_whole_through_a_delay(self, echo_port: int) -> None:
        payload = uuid.uuid4().bytes * 65_536
        with FaultProxy(echo_port) as proxy, _connected(proxy) as client:
            proxy.delay(0.05)
            threading.Thread(target=client.sendall, args=(payload,), daemon=True).start()

            received = bytearray()
            while len(received) < len(payload):
                received += client.recv(65_536)

            assert received == payload

    def test_dead_upstream_is_seen_as_a_reset(self) -> None:
        # The reset may be as quick as the connection's own answer.
        with (
            FaultProxy(loopback.take_port()) as proxy,
            pytest.raises(ConnectionResetError),
            _connected(proxy) as client,
        ):
            client.recv(1)


def _connected(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection((loopback.HOST, proxy.port), timeout=10.0)


def _echoed(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    return client.recv(100)


class TestServers:
    def test_nats_comes_back_on_its_port_after_a_kill(self, tmp_path: Path) -> None:
        with NatsServer(tmp_path) as server:
            settings = loopback.fetch_json(f"{server.monitoring_url}/jsz")["config"]
            assert settings["store_dir"].startswith(str(server.store))
            assert settings["sync_always"] is True

            server.kill()
            with pytest.raises(OSError, match="refused"):
                socket.create_connection((loopback.HOST, server.port))
            server.start()

            with socket.create_connection((loopback.HOST, server.port)) as client:
                assert client.recv(4) == b"INFO"

    def test_jaeger_shows_a_trace_that_was_sent(self, tmp_path: Path) -> None:
        trace_id = uuid.uuid4().hex
        with Jaeger(tmp_path) as jaeger:
            assert jaeger.trace(trace_id) is None

            loopback.fetch(
                f"{jaeger.otlp_http_endpoint}/v1/traces",
                method="POST",
                body=json.dumps(_one_span(trace_id)).encode(),
                headers={"Content-Type": "application/json"},
            )

            wait_until(lambda: jaeger.trace(trace_id) is not None, timeout_s=10.0, what="the trace")
            [trace] = jaeger.traces(service="bed")
            assert trace["spans"][0]["operationName"] == "look"


def _one_span(trace_id: str) -> dict[str, object]:
    service = {"key": "service.name", "value": {"stringValue": "bed"}}
    span = {
        "traceId": trace_id,
        "spanId": trace_id[:16],
        "name": "look",
        "kind": 1,
        "startTimeUnixNano": str(time.time_ns()),
        "endTimeUnixNano": str(time.time_ns() + 1_000_000),
    }
    return {
        "resourceSpans": [
            {"resource": {"attributes": [service]}, "scopeSpans": [{"spans": [span]}]}
        ]
    }


class TestCommandLine:
    def test_up_twice_and_down(self, tmp_path: Path) -> None:
        folder = tmp_path / "bed"
        try:
            first = run_command("up", "--folder", str(folder))
            server = _server_of(folder / "kubeconfig")
            second = run_command("up", "--folder", str(folder))

            assert str(folder / "kubeconfig") in first
            assert "already running" in second
            assert _server_of(folder / "kubeconfig") == server
            assert "ready" in run_command("status", "--folder", str(folder))
        finally:
            run_command("down", "--folder", str(folder))

        assert not folder.exists()
        with pytest.raises(urllib.error.URLError, match="refused"):
            loopback.fetch(server)


def _server_of(kubeconfig: Path) -> str:
    return str(yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
