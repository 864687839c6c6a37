"""The one error tree of Meshbus.

Every leaf has a stable code, a gRPC status, a word on whether a retry can help, the probable cause
and the remedy, because a user of a mesh adapter sees nothing of us but the text of our errors.
A raise gives the summary (what failed, on which object); cause and remedy come from the leaf unless
the place that raises knows better.

    MeshbusError
    ├── RequestError              the caller can mend it
    │   ├── MalformedRequest      MB-1001
    │   ├── UnknownOperation      MB-1002
    │   ├── NoCluster             MB-1003
    │   ├── OperationReused       MB-1004
    │   ├── RequestTooLarge       MB-1005
    │   ├── TooManyValues         MB-1006
    │   ├── QuotaExceeded         MB-1007
    │   ├── KubeconfigMalformed   MB-1101
    │   ├── KubeconfigRefused     MB-1102
    │   ├── ManifestMalformed     MB-1201
    │   ├── ManifestRefused       MB-1202
    │   ├── NotAuthenticated      MB-1301
    │   └── NotPermitted          MB-1302
    ├── BusError                  the message bus
    │   ├── BusUnavailable        MB-2001
    │   ├── ClusterBusy           MB-2002
    │   ├── InvalidMessage        MB-2003
    │   ├── LeaseLost             MB-2004
    │   ├── CredentialMissing     MB-2005
    │   ├── StreamsMissing        MB-2006
    │   ├── DeadlineExpired       MB-2007
    │   ├── OperationCancelled    MB-2008
    │   ├── AttemptsExhausted     MB-2009
    │   ├── ServiceDraining       MB-2010
    │   ├── ClientTooSlow         MB-2011
    │   ├── WorkerUnavailable     MB-2012
    │   ├── GrantMissing          MB-2013
    │   ├── GrantRefused          MB-2014
    │   ├── SealingKeyMissing     MB-2015
    │   ├── QueueFull             MB-2016
    │   ├── RetryRefused          MB-2017
    │   ├── Superseded            MB-2018
    │   └── StreamRefused         MB-2019
    ├── ClusterError              a Kubernetes API server
    │   ├── ClusterUnreachable    MB-3001
    │   ├── ClusterUnauthorized   MB-3002
    │   ├── ClusterForbidden      MB-3003
    │   ├── ObjectNotFound        MB-3004
    │   ├── ObjectConflict        MB-3005
    │   ├── ObjectInvalid         MB-3006
    │   ├── ClusterOverloaded     MB-3007
    │   ├── ClusterFailed         MB-3008
    │   ├── KindUnknown           MB-3009
    │   ├── WatchExpired          MB-3010
    │   ├── NamespaceMissing      MB-3011
    │   ├── AnswerUnusable        MB-3012
    │   ├── AnswerTooLarge        MB-3013
    │   └── AddressDenied         MB-3014
    ├── LifecycleError            installing and removing a mesh
    │   ├── VersionUnknown        MB-4001
    │   ├── ProfileUnknown        MB-4002
    │   ├── OverlayMalformed      MB-4003
    │   ├── OverlayRefused        MB-4004
    │   ├── RenderFailed          MB-4005
    │   ├── PrecheckRefused       MB-4006
    │   ├── NotReadyInTime        MB-4007
    │   ├── RevisionUnknown       MB-4008
    │   ├── RevisionInUse         MB-4009
    │   ├── StillDeleting         MB-4010
    │   ├── SampleMissing         MB-4011
    │   ├── PlanRefused           MB-4012
    │   ├── ReleaseUnavailable    MB-4013
    │   ├── ReleaseRefused        MB-4014
    │   ├── RolloutBusy           MB-4015
    │   ├── GateBroken            MB-4016
    │   ├── RolloutStopped        MB-4017
    │   ├── DisruptionDenied      MB-4018
    │   ├── NoWayBack             MB-4019
    │   ├── ClustersDiffer        MB-4020
    │   ├── RootsDiffer           MB-4021
    │   ├── ClusterOutOfSight     MB-4022
    │   └── AmbientMissing        MB-4030
    ├── TranslatorError           from what users write to what Istio runs
    │   ├── ObjectsInvalid        MB-5002
    │   ├── DesignMalformed       MB-5003
    │   ├── OptionsMalformed      MB-5004
    │   └── SchemasMissing        MB-5005
    ├── PerfError                 load tests
    │   ├── LoadTestMalformed     MB-6001
    │   ├── GeneratorMissing      MB-6002
    │   ├── GeneratorFailed       MB-6003
    │   ├── TargetError           the target was not to be tested
    │   │   ├── TargetUnreachable MB-6004
    │   │   ├── TargetUnknown     MB-6005
    │   │   ├── TargetUntrusted   MB-6006
    │   │   └── TargetSilent      MB-6007
    │   ├── WorkersMissing        MB-6008
    │   ├── ShardsLost            MB-6009
    │   ├── RunUnknown            MB-6010
    │   ├── BaselineUnknown       MB-6011
    │   ├── RegressionFound       MB-6012
    │   ├── TargetRefused         MB-6013
    │   ├── LoadRefused           MB-6014
    │   └── ObjectiveBroken       MB-6015
    ├── TopologyError             the live graph of a mesh
    │   ├── TelemetryUnavailable  MB-7001
    │   ├── ClusterNotWatched     MB-7002
    │   ├── HistoryGone           MB-7003
    │   ├── TooManyStreams        MB-7004
    │   ├── PageMissing           MB-7005
    │   ├── SignInUnavailable     MB-7006
    │   └── TooManyTries          MB-7007
    ├── MesheryError              Meshery's own server
    │   ├── MesheryUnreachable    MB-8001
    │   └── RegistrationRefused   MB-8002
    └── InternalError             MB-9001, a defect of ours
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import ClassVar

FOREIGN_TEXT_LIMIT = 256


class Status(StrEnum):
    """Names of the gRPC status codes that our errors map to (google.rpc.Code)."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    CANCELLED = "CANCELLED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    UNAVAILABLE = "UNAVAILABLE"
    INTERNAL = "INTERNAL"


class MeshbusError(Exception):
    """Root of the tree. `summary` says what failed; it never holds a secret or a foreign body."""

    code: ClassVar[str] = "MB-9000"
    status: ClassVar[Status] = Status.INTERNAL
    retryable: ClassVar[bool] = False
    probable_cause: ClassVar[str] = "unknown"
    usual_remedy: ClassVar[str] = "look into the service's log for the operation's id"

    def __init_subclass__(
        cls, *, code: str = "", status: Status | None = None, retryable: bool | None = None
    ) -> None:
        """Takes from the branch above each value that the class does not set."""
        super().__init_subclass__()
        cls.code = code or cls.code
        cls.status = status or cls.status
        cls.retryable = cls.retryable if retryable is None else retryable

    def __init__(
        self, summary: str, *, cause: str = "", remedy: str = "", subject: str = ""
    ) -> None:
        super().__init__(summary)
        self.summary = summary
        self.cause = cause or self.probable_cause
        self.remedy = remedy or self.usual_remedy
        self.subject = subject

    def __str__(self) -> str:
        return f"{self.code}: {self.summary}. Cause: {self.cause}. Remedy: {self.remedy}"


def shortened(text: str) -> str:
    """`text` on one line, cut to 256 characters: for bodies that another program wrote."""
    line = " ".join(text.split())
    return line if len(line) <= FOREIGN_TEXT_LIMIT else line[: FOREIGN_TEXT_LIMIT - 1] + "…"


class RequestError(MeshbusError, status=Status.INVALID_ARGUMENT):
    """The caller can mend it."""


class MalformedRequest(RequestError, code="MB-1001"):
    probable_cause = "a field of the request has a value that cannot be used"
    usual_remedy = "correct the named field and send the request again"


class UnknownOperation(RequestError, code="MB-1002"):
    probable_cause = "no worker advertises an operation of this name"
    usual_remedy = "ask SupportedOperations for the names, or start the worker that offers it"


class NoCluster(RequestError, code="MB-1003", status=Status.FAILED_PRECONDITION):
    probable_cause = "the request holds no kubeconfig and none was given by CreateMeshInstance"
    usual_remedy = "select at least one Kubernetes context in Meshery"


class OperationReused(RequestError, code="MB-1004", status=Status.ALREADY_EXISTS):
    probable_cause = "the operation id was used before for a different request"
    usual_remedy = "send a fresh operation id; an id names one request for seven days"


class RequestTooLarge(RequestError, code="MB-1005"):
    probable_cause = "the text is larger than the limit"
    usual_remedy = "split the manifest into several operations"


class TooManyValues(RequestError, code="MB-1006"):
    probable_cause = (
        "a text of this size can hold so many values that reading them would hold up all others"
    )
    usual_remedy = (
        "split it into several operations, or raise MESHBUS_READ_NODES of the gateway and workers"
    )


class QuotaExceeded(RequestError, code="MB-1007", status=Status.RESOURCE_EXHAUSTED, retryable=True):
    probable_cause = "as much is waiting or open for this caller as one may have at a time"
    usual_remedy = (
        "wait until some of it has ended, then send it again; the quotas are "
        "MESHBUS_GATEWAY_QUOTA_… in docs/reference/settings.md"
    )


class KubeconfigMalformed(RequestError, code="MB-1101"):
    probable_cause = "the text is not a usable kubeconfig"
    usual_remedy = "export it again: kubectl config view --minify --flatten --raw"


class KubeconfigRefused(RequestError, code="MB-1102"):
    probable_cause = (
        "the kubeconfig asks Meshbus to run a program, read a file or leave the TLS path"
    )
    usual_remedy = (
        "take files in with kubectl config view --minify --flatten --raw; for an account with a "
        "token and the least rights: make kubeconfig CONTEXT=…"
    )


class ManifestMalformed(RequestError, code="MB-1201"):
    probable_cause = "a document of the manifest is not a Kubernetes object"
    usual_remedy = "correct the named document; kubectl apply --dry-run=client shows the same place"


class ManifestRefused(RequestError, code="MB-1202"):
    probable_cause = "the manifest asks for something that this operation does not do"
    usual_remedy = "see the operation's reference page for what it takes"


class NotAuthenticated(RequestError, code="MB-1301", status=Status.UNAUTHENTICATED):
    probable_cause = "the call brings no client certificate and no token that this gateway trusts"
    usual_remedy = (
        "give the client a certificate or a token; docs/how-to/identities.md has the ways"
    )


class NotPermitted(RequestError, code="MB-1302", status=Status.PERMISSION_DENIED):
    probable_cause = "no rule of the policy allows this to whoever asks"
    usual_remedy = "ask whoever keeps the policy file (MESHBUS_POLICY) for a rule that allows it"


class BusError(MeshbusError, status=Status.UNAVAILABLE, retryable=True):
    """The message bus."""


class BusUnavailable(BusError, code="MB-2001"):
    probable_cause = "NATS did not answer in time"
    usual_remedy = "check that the NATS server runs and that MESHBUS_NATS_URL points to it"


class ClusterBusy(BusError, code="MB-2002", status=Status.ABORTED):
    probable_cause = "another operation is changing the mesh of this cluster"
    usual_remedy = "wait for the named operation to end, or cancel it"


class InvalidMessage(BusError, code="MB-2003", status=Status.INVALID_ARGUMENT, retryable=False):
    probable_cause = "the message is not of a schema version that this worker knows"
    usual_remedy = "compare the sender's and the worker's versions; the message is kept in DLQ"


class LeaseLost(BusError, code="MB-2004", status=Status.ABORTED):
    probable_cause = "this worker could not renew its claim, so another one may have taken over"
    usual_remedy = "nothing to do: the operation goes on in the worker that holds it now"


class CredentialMissing(
    BusError, code="MB-2005", status=Status.FAILED_PRECONDITION, retryable=False
):
    probable_cause = "the sealed kubeconfig has expired or the cluster is not registered"
    usual_remedy = "send the operation again through the gateway, with its kubeconfig"


class StreamsMissing(BusError, code="MB-2006", status=Status.FAILED_PRECONDITION):
    probable_cause = "the streams and buckets of Meshbus are not on this NATS server"
    usual_remedy = (
        "run `python -m services.chassis.bus apply`, once and with each upgrade; "
        "docs/how-to/operate.md has all steps"
    )


class DeadlineExpired(BusError, code="MB-2007", status=Status.DEADLINE_EXCEEDED, retryable=False):
    probable_cause = "no worker could finish the operation before its deadline"
    usual_remedy = "check that the worker runs (nats micro ls), then send the operation again"


class OperationCancelled(BusError, code="MB-2008", status=Status.CANCELLED, retryable=False):
    probable_cause = "somebody cancelled the operation"
    usual_remedy = "send it again if it is still wanted; a repeat finishes what was begun"


class AttemptsExhausted(BusError, code="MB-2009", status=Status.INTERNAL, retryable=False):
    probable_cause = "every worker that took the command failed or died"
    usual_remedy = "read the command in the stream DLQ and the workers' logs for the operation's id"


class ServiceDraining(BusError, code="MB-2010"):
    probable_cause = "the service was asked to stop"
    usual_remedy = "send it again in a moment: another or a restarted instance answers"


class ClientTooSlow(BusError, code="MB-2011", status=Status.RESOURCE_EXHAUSTED):
    probable_cause = "the client read its events more slowly than they came, for too long"
    usual_remedy = "connect again; the stream goes on from there"


class WorkerUnavailable(BusError, code="MB-2012"):
    probable_cause = "no worker of the service is connected, or none answered in time"
    usual_remedy = "start the worker (nats micro ls shows those that run) and repeat the operation"


class GrantMissing(BusError, code="MB-2013", status=Status.PERMISSION_DENIED, retryable=False):
    probable_cause = (
        "a service handed on what the gateway has not signed; it was sent to that service by hand"
    )
    usual_remedy = (
        "ask the gateway for it (ApplyOperation, mesh.gateway.apply), or sign the command first: "
        "`python -m services.chassis.bus sign`, with the gateway's key"
    )


class GrantRefused(BusError, code="MB-2014", status=Status.PERMISSION_DENIED, retryable=False):
    probable_cause = "a service asked for more than the gateway has signed"
    usual_remedy = (
        "treat the key of the service that the subject names as stolen, unless its version is "
        "another than lifecycle's"
    )


class SealingKeyMissing(BusError, code="MB-2015", status=Status.FAILED_PRECONDITION):
    probable_cause = "sender and receiver have sealing keys that do not belong together"
    usual_remedy = (
        "give the receiver the private half beside its own in MESHBUS_SEALING_PRIVATE_KEY; "
        "docs/how-to/keys.md has the order in which keys are changed"
    )


class QueueFull(BusError, code="MB-2016", status=Status.RESOURCE_EXHAUSTED):
    probable_cause = "as many commands wait as the stream CMD may hold"
    usual_remedy = (
        "check that the workers run (nats micro ls) and how many commands wait "
        "(nats stream info CMD), then send it again"
    )


class RetryRefused(BusError, code="MB-2017", status=Status.FAILED_PRECONDITION, retryable=False):
    probable_cause = "the letter is no command that failed for good because its workers failed"
    usual_remedy = "send the operation again; `nats stream get DLQ NUMBER` shows what was given up"


class Superseded(BusError, code="MB-2018", status=Status.ABORTED, retryable=False):
    probable_cause = "a later operation, or a later following, has taken its place"
    usual_remedy = "nothing is to be done: what was sent last is what counts"


class StreamRefused(BusError, code="MB-2019", status=Status.FAILED_PRECONDITION, retryable=False):
    probable_cause = (
        "NATS cannot bring it from what it is to what this version needs, and nothing in it was "
        "changed"
    )
    usual_remedy = "docs/how-to/upgrade.md, under refused, says what to do for each reason"


class ClusterError(MeshbusError, status=Status.FAILED_PRECONDITION):
    """A Kubernetes API server."""


class ClusterUnreachable(ClusterError, code="MB-3001", status=Status.UNAVAILABLE, retryable=True):
    probable_cause = "the API server does not answer at the kubeconfig's address"
    usual_remedy = "check the address and the network between the workers and the cluster"


class ClusterUnauthorized(ClusterError, code="MB-3002", status=Status.UNAUTHENTICATED):
    probable_cause = "the API server does not accept the token or the client certificate"
    usual_remedy = "renew the credential in Meshery's context and repeat the operation"


class ClusterForbidden(ClusterError, code="MB-3003", status=Status.PERMISSION_DENIED):
    probable_cause = "the credential's user may not do this"
    usual_remedy = (
        "give the user the rights named in docs/reference/rbac.md, or use another context"
    )


class ObjectNotFound(ClusterError, code="MB-3004", status=Status.NOT_FOUND):
    probable_cause = "the object does not exist"
    usual_remedy = "check its name and namespace"


class ObjectConflict(ClusterError, code="MB-3005", status=Status.ABORTED, retryable=True):
    probable_cause = "another manager owns a field or changed the object at the same moment"
    usual_remedy = "repeat the operation; if it happens again, find the other manager"


class ObjectInvalid(ClusterError, code="MB-3006", status=Status.INVALID_ARGUMENT):
    probable_cause = "the API server or an admission webhook refuses the object as it is"
    usual_remedy = "correct the named field"


class ClusterOverloaded(ClusterError, code="MB-3007", status=Status.UNAVAILABLE, retryable=True):
    probable_cause = "the API server asks its clients to slow down"
    usual_remedy = "repeat the operation later"
    retry_after_s: float = 1.0
    """How long the server asks its client to wait."""


class ClusterFailed(ClusterError, code="MB-3008", status=Status.UNAVAILABLE, retryable=True):
    probable_cause = "the API server answered with an internal error"
    usual_remedy = "repeat the operation; if it happens again, look into the API server's log"


class KindUnknown(ClusterError, code="MB-3009", status=Status.NOT_FOUND):
    probable_cause = "the cluster serves no such kind; its CustomResourceDefinition is missing"
    usual_remedy = "install the mesh or the CRD first"


class WatchExpired(ClusterError, code="MB-3010", retryable=True):
    probable_cause = "the watch's resource version is older than what the API server keeps"
    usual_remedy = "nothing to do: the watch lists again"


class NamespaceMissing(ClusterError, code="MB-3011", status=Status.NOT_FOUND):
    probable_cause = "the namespace does not exist"
    usual_remedy = "create the namespace, or put a Namespace object into the manifest"


class AnswerUnusable(ClusterError, code="MB-3012"):
    probable_cause = "what answers at the kubeconfig's address is not a Kubernetes API server"
    usual_remedy = "name the API server itself; a login page or a proxy before it is none"


class AnswerTooLarge(ClusterError, code="MB-3013", status=Status.RESOURCE_EXHAUSTED):
    probable_cause = "the API server sends more in one answer than Meshbus reads"
    usual_remedy = "look at what answers there, or raise MESHBUS_ANSWER_BYTES"


class AddressDenied(ClusterError, code="MB-3014", status=Status.PERMISSION_DENIED):
    probable_cause = "Meshbus connects to no address in this range"
    usual_remedy = "name the address that is meant, or allow it in MESHBUS_ADDRESSES_ALLOWED"


class LifecycleError(MeshbusError, status=Status.FAILED_PRECONDITION):
    """Installing and removing a mesh."""


class VersionUnknown(LifecycleError, code="MB-4001", status=Status.NOT_FOUND):
    probable_cause = "there is no distribution of this Istio version"
    usual_remedy = "name the exact version of a release, or add its distribution folder"


class ProfileUnknown(LifecycleError, code="MB-4002", status=Status.INVALID_ARGUMENT):
    probable_cause = "Meshbus offers no installation profile of this name"
    usual_remedy = "choose one of the listed profiles"


class OverlayMalformed(LifecycleError, code="MB-4003", status=Status.INVALID_ARGUMENT):
    probable_cause = "the IstioOperator overlay cannot be read"
    usual_remedy = "correct the named place; see docs/how-to/install.md for the forms"


class OverlayRefused(LifecycleError, code="MB-4004", status=Status.INVALID_ARGUMENT):
    probable_cause = "the overlay would read files or fetch charts from elsewhere"
    usual_remedy = "remove the named field; charts come from the version's own distribution"


class RenderFailed(LifecycleError, code="MB-4005", status=Status.INVALID_ARGUMENT):
    probable_cause = "istioctl of the wanted version does not accept the values"
    usual_remedy = "correct the named value of the overlay"


class PrecheckRefused(LifecycleError, code="MB-4006"):
    probable_cause = "the change is not safe for what runs in the cluster"
    usual_remedy = "read the reason; `force: true` in the request's body overrides it"


class NotReadyInTime(LifecycleError, code="MB-4007", status=Status.DEADLINE_EXCEEDED):
    probable_cause = "a workload did not become ready before the readiness timeout"
    usual_remedy = "mend the named workload and repeat the operation: it goes on where it stands"


class RevisionUnknown(LifecycleError, code="MB-4008", status=Status.NOT_FOUND):
    probable_cause = "no such revision is installed in the cluster"
    usual_remedy = "choose one of the listed revisions"


class RevisionInUse(LifecycleError, code="MB-4009"):
    probable_cause = "a tag still points to the revision, so its namespaces would lose injection"
    usual_remedy = "move the tag to another revision first, or send `force: true`"


class StillDeleting(LifecycleError, code="MB-4010", status=Status.DEADLINE_EXCEEDED):
    probable_cause = "objects wait for finalizers"
    usual_remedy = "see which finalizer holds the named object, then repeat the operation"


class SampleMissing(LifecycleError, code="MB-4011", status=Status.NOT_FOUND):
    probable_cause = "the distribution of this Istio version has no such manifest in its samples"
    usual_remedy = "unpack the whole release archive of the version into its distribution folder"


class PlanRefused(LifecycleError, code="MB-4012", status=Status.INVALID_ARGUMENT):
    probable_cause = "the plan holds a step that this worker does not know"
    usual_remedy = "run translator and lifecycle of the same version"


class ReleaseUnavailable(LifecycleError, code="MB-4013", status=Status.UNAVAILABLE, retryable=True):
    probable_cause = "the address that Istio's releases come from does not give the whole archive"
    usual_remedy = (
        "repeat the operation, name a mirror in MESHBUS_LIFECYCLE_RELEASES, "
        "or put the distribution into the folder"
    )


class ReleaseRefused(LifecycleError, code="MB-4014"):
    probable_cause = "the archive is not the published release, or no release looks like that"
    usual_remedy = "look at what serves MESHBUS_LIFECYCLE_RELEASES; nothing of it was kept"


class RolloutBusy(LifecycleError, code="MB-4015", status=Status.ABORTED):
    probable_cause = "another rollout has the cluster, and two would undo each other's steps"
    usual_remedy = "wait for its end, or abort it: `nats req mesh.lifecycle.rolloutabort`"


class GateBroken(LifecycleError, code="MB-4016"):
    probable_cause = "the mesh does worse than the rollout's gate allows"
    usual_remedy = "find out why in the named clusters, mend it, and send the rollout again"


class RolloutStopped(LifecycleError, code="MB-4017", status=Status.ABORTED):
    probable_cause = "the rollout was stopped before this cluster was done"
    usual_remedy = "`nats req mesh.lifecycle.rollout` tells why; mend that, and send it again"


class DisruptionDenied(LifecycleError, code="MB-4018", status=Status.DEADLINE_EXCEEDED):
    probable_cause = "a PodDisruptionBudget allows no pod of the workload to be restarted"
    usual_remedy = "let it allow one, by more replicas or another budget, and repeat the rollout"


class NoWayBack(LifecycleError, code="MB-4019"):
    probable_cause = "the cluster's old revision is gone, or nothing was changed there"
    usual_remedy = "install the old version again by the operation `istio` (docs/how-to/canary.md)"


class ClustersDiffer(LifecycleError, code="MB-4020"):
    probable_cause = "what proxies know a mesh by is not the same in all of its clusters"
    usual_remedy = (
        "correct the MultiClusterOptions or the named cluster; `force: true` in the "
        "LifecycleOptions changes it there, and its workloads have to be restarted then"
    )


class RootsDiffer(LifecycleError, code="MB-4021"):
    probable_cause = "proxies trust only certificates of their own root"
    usual_remedy = (
        "give the root that the clusters have (`trust` of the MultiClusterOptions), or remove the "
        "Secret `cacerts` of the cluster that has another one"
    )


class ClusterOutOfSight(LifecycleError, code="MB-4022"):
    probable_cause = "the mesh's other clusters do not reach the API server at its address"
    usual_remedy = "name an address that they reach: `server` of the cluster"


class AmbientMissing(LifecycleError, code="MB-4030"):
    probable_cause = "the data plane of ambient is not there, or not ready"
    usual_remedy = "install it by the operation `istio` with `profile: ambient`; then send it again"


class TranslatorError(MeshbusError, status=Status.INVALID_ARGUMENT):
    """A translation from manifests, designs and intents to Istio objects."""


class ObjectsInvalid(TranslatorError, code="MB-5002"):
    probable_cause = "objects do not fit the definitions of the cluster's Istio version"
    usual_remedy = "correct the named places; nothing was applied"


class DesignMalformed(TranslatorError, code="MB-5003"):
    probable_cause = "a component of the design lacks what makes it an object"
    usual_remedy = "correct the named component, or export the design from Meshery again"


class OptionsMalformed(TranslatorError, code="MB-5004"):
    probable_cause = "the options in the request's body cannot be used"
    usual_remedy = "correct the named field; docs/how-to/translate.md has the forms"


class SchemasMissing(TranslatorError, code="MB-5005", status=Status.NOT_FOUND):
    probable_cause = "there is no distribution of this Istio version to take definitions from"
    usual_remedy = "add its distribution folder, or name one of the listed versions"


class PerfError(MeshbusError, status=Status.FAILED_PRECONDITION):
    """Load tests."""


class LoadTestMalformed(PerfError, code="MB-6001", status=Status.INVALID_ARGUMENT):
    probable_cause = "a field of the performance test has a value that cannot be used"
    usual_remedy = "correct the named field; docs/how-to/perf.md has the forms"


class GeneratorMissing(PerfError, code="MB-6002"):
    probable_cause = "the load generator's program is not installed where the perf worker runs"
    usual_remedy = "install it, or name its path in MESHBUS_PERF_FORTIO or MESHBUS_PERF_WRK2"


class GeneratorFailed(PerfError, code="MB-6003", status=Status.INTERNAL, retryable=True):
    probable_cause = "the load generator ended with an error"
    usual_remedy = "read the generator's words; run the same test with fewer connections"


class TargetError(PerfError, status=Status.UNAVAILABLE):
    """The target was not to be tested."""


class TargetUnreachable(TargetError, code="MB-6004"):
    probable_cause = "nothing listens at the target's address, or a firewall is between"
    usual_remedy = "check that the target runs and is reachable from where the perf workers run"


class TargetUnknown(TargetError, code="MB-6005"):
    probable_cause = "the target's name cannot be resolved where the perf workers run"
    usual_remedy = "correct the host, or run perf workers in the cluster whose DNS knows the name"


class TargetUntrusted(TargetError, code="MB-6006"):
    probable_cause = "the target's certificate is not valid for its name, or TLS is not spoken"
    usual_remedy = "give the CA in ssl_certificate, or set `insecure: true` in the options"


class TargetSilent(TargetError, code="MB-6007", status=Status.DEADLINE_EXCEEDED):
    probable_cause = "the target takes connections and answers no request in time"
    usual_remedy = "raise `timeoutSeconds` in the options, or lower the rate"


class WorkersMissing(PerfError, code="MB-6008", status=Status.UNAVAILABLE, retryable=True):
    probable_cause = "fewer perf workers are free than the test asks for"
    usual_remedy = "start more perf workers, or ask for fewer in `workers`"


class ShardsLost(PerfError, code="MB-6009", status=Status.UNAVAILABLE, retryable=True):
    probable_cause = "perf workers died or were cut off in the middle of the run"
    usual_remedy = "run the test again; `nats micro ls` shows the workers that are there"


class RunUnknown(PerfError, code="MB-6010", status=Status.NOT_FOUND):
    probable_cause = "no run of this id is kept; results go after their time to live"
    usual_remedy = "take the id from the run's events, or run the test again"


class BaselineUnknown(PerfError, code="MB-6011", status=Status.NOT_FOUND):
    probable_cause = "no baseline is kept for this name and configuration"
    usual_remedy = "run the test with `baseline: NAME` once to keep it"


class RegressionFound(PerfError, code="MB-6012"):
    probable_cause = "the change made the service slower or less reliable than the threshold allows"
    usual_remedy = "read the comparison, mend the change and try again"


class TargetRefused(PerfError, code="MB-6013", status=Status.PERMISSION_DENIED):
    probable_cause = "load tests are made against listed targets only"
    usual_remedy = "write the Service in full (name.namespace.svc), or add to MESHBUS_PERF_TARGETS"


class LoadRefused(PerfError, code="MB-6014", status=Status.PERMISSION_DENIED):
    probable_cause = "the test asks for more load than this installation makes"
    usual_remedy = "ask for less, or raise the ceiling that is named"


class ObjectiveBroken(PerfError, code="MB-6015"):
    probable_cause = "a run with the change broke a limit that all runs without it had held"
    usual_remedy = "mend the change, or raise the limit in `objective` if it is not what is needed"


class TopologyError(MeshbusError, status=Status.FAILED_PRECONDITION):
    """The live graph of a mesh."""


class TelemetryUnavailable(
    TopologyError, code="MB-7001", status=Status.UNAVAILABLE, retryable=True
):
    probable_cause = "the source of the mesh's telemetry is away, slow, or something else"
    usual_remedy = (
        "look at `tried` in `nats req mesh.topology.clusters ''`, and check "
        "MESHBUS_TOPOLOGY_PROMETHEUS; the graph goes on without traffic meanwhile"
    )


class ClusterNotWatched(TopologyError, code="MB-7002", status=Status.NOT_FOUND):
    probable_cause = (
        "no cluster of this name is registered, or its first watch has not answered yet"
    )
    usual_remedy = "list what is registered by `nats req mesh.gateway.clusters ''`"


class HistoryGone(TopologyError, code="MB-7003", status=Status.NOT_FOUND):
    probable_cause = "changes of the graph are kept for three days, and within a bound of size"
    usual_remedy = "ask for a later moment"


class TooManyStreams(
    TopologyError, code="MB-7004", status=Status.RESOURCE_EXHAUSTED, retryable=True
):
    probable_cause = "as many clients follow the graph as this process serves"
    usual_remedy = "close pages that nobody looks at, or raise MESHBUS_TOPOLOGY_MOST_STREAMS"


class PageMissing(TopologyError, code="MB-7005", status=Status.NOT_FOUND):
    probable_cause = "npm, which builds the page from its sources, was not there, or failed"
    usual_remedy = (
        "install Node.js 20 or newer and run `make page`; questions, streams and reports are "
        "answered all the same"
    )


class SignInUnavailable(TopologyError, code="MB-7006", status=Status.UNAVAILABLE, retryable=True):
    probable_cause = "the issuer that people sign in at is away, or set up in another way"
    usual_remedy = "check MESHBUS_TOPOLOGY_OIDC_ISSUER; until then people sign in by a token"


class TooManyTries(TopologyError, code="MB-7007", status=Status.RESOURCE_EXHAUSTED, retryable=True):
    probable_cause = "a program tries, or many people are behind one address"
    usual_remedy = "wait a minute"


class MesheryError(MeshbusError, status=Status.FAILED_PRECONDITION):
    """Meshery's own server."""


class MesheryUnreachable(MesheryError, code="MB-8001", status=Status.UNAVAILABLE, retryable=True):
    probable_cause = "Meshery's server is away, starting, or not at this address"
    usual_remedy = (
        "check MESHBUS_GATEWAY_MESHERY and the network between; it is tried again by itself"
    )


class RegistrationRefused(MesheryError, code="MB-8002"):
    probable_cause = "Meshery's registry does not take models in this form"
    usual_remedy = (
        "look into Meshery's log; name versions with mesheryctl or gRPC meanwhile. "
        "docs/reference/meshery.md has what is sent"
    )


class InternalError(MeshbusError, code="MB-9001"):
    probable_cause = "a defect of Meshbus"
    usual_remedy = "report it with the operation's id and the log lines that carry it"


def of_code(code: str) -> type[MeshbusError]:
    """The leaf with this code; `InternalError` for a code of another release."""
    return next((leaf for leaf in leaves(MeshbusError) if leaf.code == code), InternalError)


def leaves(root: type[MeshbusError]) -> Iterator[type[MeshbusError]]:
    """All leaves below `root`, which is one itself when nothing is derived from it."""
    children = root.__subclasses__()
    if not children:
        yield root
    for child in children:
        yield from leaves(child)
