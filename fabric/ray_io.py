"""The door to a running Ray: connect, look at nodes, reach actors by name, wait for results, tell errors apart.

Everything that the control plane asks of Ray goes through here, and Ray's errors become ours in one place (`mapped`).
Nothing here decides.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.exceptions as rex
from ray.job_config import JobConfig

from fabric import auth
from fabric.config import set_ray_environment
from fabric.errors import FabricError, OutOfMemory, RuntimeFault, UnavailableError
from fabric.stranded import NAMESPACE as _NAMESPACE
from fabric.types import FLAVOR_LABEL, SLOWDOWN_LABEL, TIER_LABEL, Node, PoolSnapshot

NAMESPACE = _NAMESPACE
HEAD_RESOURCE = "node:__internal_head__"
WARM_PREFIX = "warm/"
"""The warm host of a node is the actor `warm/<node id>`: the scheduler starts it, the node's pool ends it where nothing uses the node."""
NODE_ID_LABEL = "ray.io/node-id"
CONNECT_TIMEOUT_S = 4.0
CALL_TIMEOUT_S = 10.0


def is_connected() -> bool:
    return bool(ray.is_initialized())


def connect(address: str, *, log_to_driver: bool = True, told: Mapping[str, str] | None = None) -> None:
    """Join the Ray cluster at `address` (`host:port` of its head, or `auto`). `told`: what Ray's dashboard shows of this program.

    Raises: UnavailableError within 10 s where nothing, or something else, answers there.
    """
    set_ray_environment()
    if address != "auto":
        _check_head(address)
    # Ray fixes its authentication mode at import; imported too late to settle it, only a cluster that Ray finds by
    # itself turns authentication on.
    is_found = auth.came_too_late()
    try:
        options: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": log_to_driver, "configure_logging": False}
        ray.init(address="auto" if is_found else address, job_config=JobConfig(metadata=dict(told or {})), **options)
    except (ConnectionError, RuntimeError, rex.RayError) as error:
        raise _connect_error(address, error) from error
    if is_found and address not in ("auto", found := str(ray.get_runtime_context().gcs_address)):
        ray.shutdown()
        hint = "import fabric before ray, or export RAY_AUTH_MODE=token"
        raise UnavailableError(f"Ray was imported first and found {found} instead of {address}", code="unauthenticated", hint=hint)


def disconnect() -> None:
    ray.shutdown()


def address() -> str:
    """`host:port` of the head of the cluster that this process is connected to."""
    return str(ray.get_runtime_context().gcs_address)


def _check_head(address: str) -> None:
    """Ask the head's own health service: a plain ray.init would wait for minutes on a dead address."""
    hint = "is the head up (`ray status` there), the port right (6379 unless set) and open in the firewall? `fabric doctor` checks"
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address.startswith("ray://") or not host or not port.isdigit():
        raise UnavailableError(f"{address!r} is not the address of a Ray head", code="bad_address", hint='give "host:port" or "auto"')
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S):
            pass
    except (OSError, OverflowError) as error:
        raise UnavailableError(f"nothing answers at {address}: {error}", hint=hint) from error
    import grpc

    with auth.head_channel(f"{host}:{port}") as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            check(b"", timeout=CONNECT_TIMEOUT_S)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise UnavailableError(f"what answers at {address} is no Ray head ({error.code().name})", hint=hint) from error


def _connect_error(address: str, error: Exception) -> UnavailableError:
    text = str(error)
    if "ersion mismatch" in text:
        hint = f"install the same Ray and Python on both sides; here: Ray {ray.__version__}, Python {sys.version.split()[0]}"
        return UnavailableError(f"{address} runs another version: {text.splitlines()[0]}", code="version_mismatch", hint=hint)
    if "uthentication" in text or "token" in text.lower():
        hint = "copy the head's ~/.ray/auth_token here (mode 0600) and set RAY_AUTH_MODE=token"
        return UnavailableError(f"{address} refused this machine's token", code="unauthenticated", hint=hint)
    hint = 'start one with `fabric up`, or give its address: connect("host:port")'
    return UnavailableError(f"cannot join a Ray cluster at {address}: {text.splitlines()[0] if text else error!r}", hint=hint)


def wait_for_nodes(num_nodes: int, timeout_s: float) -> None:
    """Wait until so many nodes have joined, and Ray's resource view shows them (it lags behind its list of nodes, and is
    what pools and clients read); returns in any case when the time is over."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if len(living_nodes()) >= num_nodes:
            return
        time.sleep(0.02)


def living_nodes() -> list[Node]:
    """Every living node with its labels, totals and use; nodes without tier or flavor labels have empty ones."""
    from ray.autoscaler.v2.sdk import get_cluster_status

    hosts = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes()}
    status = get_cluster_status(address(), timeout=5)
    nodes = []
    for info in (*status.active_nodes, *status.idle_nodes):
        labels = info.labels or {}
        slowdown = labels.get(SLOWDOWN_LABEL)
        usage = info.resource_usage.usage if info.resource_usage else []
        nodes.append(
            Node(
                node_id=info.node_id,
                host=hosts.get(info.node_id, info.ip_address),
                tier=labels.get(TIER_LABEL, ""),
                flavor=labels.get(FLAVOR_LABEL, ""),
                total={u.resource_name: u.total for u in usage if not u.resource_name.startswith("node:")},
                used={u.resource_name: u.used for u in usage if not u.resource_name.startswith("node:")},
                slowdown=float(slowdown) if slowdown else None,
                node_type=info.ray_node_type_name,
                is_elastic=bool(info.instance_id) and all(u.resource_name != HEAD_RESOURCE for u in usage),
            )
        )
    return nodes


@dataclass(frozen=True, slots=True)
class WorkerPlace:
    """Where this worker runs."""

    node_id: str
    flavor: str
    slowdown: float


def worker_place() -> WorkerPlace:
    context = ray.get_runtime_context()
    labels = context.get_node_labels()
    return WorkerPlace(context.get_node_id(), labels.get(FLAVOR_LABEL, ""), float(labels.get(SLOWDOWN_LABEL, "1")))


def session_directory() -> Path:
    """Where Ray keeps this node's files while the cluster runs."""
    context = ray.get_runtime_context()
    return Path(str(context.get_temp_dir())) / str(context.get_session_name())


def call_id_reader() -> Callable[[], str]:
    """A cheap reader of the Ray task id of the call that this worker runs; `call_id(ref)` names it on the caller's side."""
    read: Callable[[], str] = ray.get_runtime_context().get_task_id
    return read


def assigned_memory_bytes() -> int:
    """The memory that the current call was given by its request; 0 where it asked for none."""
    return int(ray.get_runtime_context().get_assigned_resources().get("memory", 0))


def assigned_cards() -> tuple[int, ...]:
    """The indices of the GPUs that the current call was given; none where Ray names them otherwise (MIG slices)."""
    return tuple(int(name) for name in ray.get_runtime_context().get_accelerator_ids().get("GPU", ()) if name.isdecimal())


def call_id(ref: Any) -> str:
    return str(ref.task_id().hex())


def actor(name: str) -> Any:
    """A handle of a fabric actor. Raises: UnavailableError where there is none of that name."""
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError as error:
        raise UnavailableError(f"no fabric actor {name!r}", hint="`fabric status` and any connected client start it anew") from error


def end_actor(name: str) -> None:
    """End a fabric actor for good; nothing happens where there is none."""
    with contextlib.suppress(UnavailableError):
        ray.kill(actor(name), no_restart=True)


def ask(ref: Any, timeout_s: float | None = CALL_TIMEOUT_S) -> Any:
    """The one wait for an actor's answer, or for several; errors come out as ours."""
    try:
        return ray.get(ref, timeout=timeout_s)
    except Exception as error:
        raise mapped(error) from error


def pool_snapshots(tiers: Iterable[str], timeout_s: float) -> dict[str, PoolSnapshot | FabricError]:
    """Tier -> its pool's snapshot, or why there is none. All are asked at once."""
    asked: dict[str, Any] = {}
    for tier in tiers:
        try:
            asked[tier] = actor(f"pool-{tier}").snapshot.remote()
        except FabricError as error:
            asked[tier] = error
    found: dict[str, PoolSnapshot | FabricError] = {}
    for tier, ref in asked.items():
        try:
            found[tier] = ref if isinstance(ref, FabricError) else ask(ref, timeout_s)
        except FabricError as error:
            found[tier] = error
    return found


def done(refs: Sequence[Any]) -> set[Any]:
    """Those of the refs that have a result or an error; never blocks."""
    if not refs:
        return set()
    ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=0, fetch_local=False)
    return set(ready)


def wait_any(refs: Sequence[Any], timeout_s: float) -> list[Any]:
    """Up to all of the refs that are done, at least one unless the time runs out."""
    ready, rest = ray.wait(list(refs), num_returns=1, timeout=timeout_s, fetch_local=False)
    if rest:
        more, _ = ray.wait(rest, num_returns=len(rest), timeout=0, fetch_local=False)
        ready += more
    return list(ready)


def cancel(ref: Any) -> None:
    ray.cancel(ref, force=False, recursive=False)


def drain(node_id: str, deadline_s: float) -> None:
    """Ask Ray to drain a node: no new work, what runs may end within the deadline, then it leaves.

    Ray has no public Python call for this; its command line does.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", address(), "--node-id", node_id]
    reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "fabric node drain"]
    deadline = ["--deadline-remaining-seconds", str(int(deadline_s))]
    done = subprocess.run([*command, *reason, *deadline], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeFault(f"Ray did not drain {node_id[:8]}: {lines[-1] if lines else done.returncode}", code="drain_refused")


def mapped(error: BaseException) -> BaseException:
    """The error as its catcher should see it: a task's own exception as its own type with the remote traceback as a note,
    Ray's failures as ours. `__cause__` stays Ray's error."""
    cause = error.cause if isinstance(error, rex.RayTaskError) else None
    if isinstance(cause, rex.RayError) and type(cause) in _KINDS:
        return mapped(cause)
    if isinstance(cause, BaseException):
        remote_traceback = str(error)
        if remote_traceback not in getattr(cause, "__notes__", ()):
            cause.add_note(remote_traceback)
        return cause
    for kind, build in _KINDS.items():
        if isinstance(error, kind):
            return build(error)
    return error


def _fault(code: str, hint: str | None = None, kind: type[FabricError] = RuntimeFault) -> Callable[[BaseException], FabricError]:
    def build(error: BaseException) -> FabricError:
        lines = str(error).strip().splitlines() or [repr(error)]
        return kind(lines[0], code=code, hint=hint)

    return build


_KINDS: Mapping[type[BaseException], Callable[[BaseException], FabricError]] = {
    rex.OutOfMemoryError: _fault("out_of_memory", "the next call asks for more memory", OutOfMemory),
    rex.ActorDiedError: _fault("actor_died", "it is started anew by the next client", UnavailableError),
    rex.ActorUnavailableError: _fault("actor_unavailable", "it is restarting: try again", UnavailableError),
    rex.RayActorError: _fault("actor_died", None, UnavailableError),
    rex.GetTimeoutError: _fault("timeout", "the fabric is busy or gone: `fabric status`", UnavailableError),
    rex.TaskCancelledError: _fault("cancelled"),
    rex.NodeDiedError: _fault("node_died"),
    rex.WorkerCrashedError: _fault("worker_crashed", "killed from outside, often by the kernel for memory: `dmesg | tail`"),
    rex.TaskUnschedulableError: _fault("no_fit"),
    rex.RuntimeEnvSetupError: _fault("runtime_env"),
    rex.ObjectLostError: _fault("object_lost"),
    rex.RaySystemError: _fault("ray_system"),
    rex.AuthenticationError: _fault("unauthenticated", "set RAY_AUTH_MODE=token and copy the head's ~/.ray/auth_token", UnavailableError),
}


def describe_exception(error: BaseException) -> str:
    """One line: type and message."""
    return "".join(traceback.format_exception_only(type(error), error)).strip()
