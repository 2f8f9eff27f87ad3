"""Pure: the command line and the environment with which Ray starts on a machine."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath

from fabric.machines.spec import NodeSpec

GCS_DIRECTORY = "~/.tierfabric/gcs"
BOOTSTRAP_CONFIG = "~/ray_bootstrap_config.yaml"
"""Where `ray up` puts the cluster file on the head, for its autoscaler."""
TOKEN_PATH = "~/.tierfabric/node/auth_token"
TLS_DIRECTORY = "~/.tierfabric/node/tls"

DEFAULT_ENV: Mapping[str, str] = {
    # Nobody runs code here who has not the cluster's token.
    "RAY_AUTH_MODE": "token",
    # Nothing is sent home.
    "RAY_USAGE_STATS_ENABLED": "0",
    # A node that hangs is noticed within 7.5 s: five times 0.3 s and 1.2 s; one whose processes died, within 2. Ray's own values need 18 s
    # and more. A head that restarts moves its actors when it has noticed that its earlier self is gone.
    "RAY_health_check_initial_delay_ms": "200",
    "RAY_health_check_period_ms": "300",
    "RAY_health_check_timeout_ms": "1200",
    "RAY_health_check_failure_threshold": "5",
    # Nodes and actors wait ten minutes for a head that restarts; Ray's own 60 s are less than a machine's reboot.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
    # Work that fits nowhere, and never will, fails at once instead of hanging.
    "RAY_enable_infeasible_task_early_exit": "1",
    "RAY_enable_autoscaler_v2": "1",
    # A task that ran out of memory is sized anew by the fabric, not tried again with the same request.
    "RAY_task_oom_retries": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "PYTHONUNBUFFERED": "1",
}
"""Each can be set otherwise under `provider.env` of the cluster file."""


def ray_start(spec: NodeSpec, home: str) -> list[str]:
    """The command that runs a node until it ends."""
    ports = spec.ports
    common = [
        f"{_at_home(spec.environment, home)}/bin/ray",
        "start",
        "--block",
        "--disable-usage-stats",
        f"--node-ip-address={spec.address}",
        f"--node-manager-port={ports.node_manager}",
        f"--object-manager-port={ports.object_manager}",
        f"--dashboard-agent-grpc-port={ports.agent_grpc}",
        f"--dashboard-agent-listen-port={ports.agent_http}",
        f"--runtime-env-agent-port={ports.runtime_env_agent}",
        f"--metrics-export-port={ports.metrics}",
        f"--min-worker-port={ports.first_worker}",
        f"--max-worker-port={ports.last_worker}",
    ]
    if spec.labels:
        common.append("--labels=" + ",".join(f"{key}={value}" for key, value in sorted(spec.labels.items())))
    common += _resources(spec.resources)
    if spec.kind == "worker":
        return [*common, f"--address={spec.head}:{ports.gcs}"]
    head = [
        "--head",
        f"--port={ports.gcs}",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={ports.dashboard}",
        f"--ray-client-server-port={ports.client}",
    ]
    if spec.autoscaling_config:
        head.append(f"--autoscaling-config={_at_home(spec.autoscaling_config, home)}")
    return [*common, *head]


def ray_environment(spec: NodeSpec, home: str) -> dict[str, str]:
    """Variables for `ray start`, over those of the machine."""
    env = {
        **DEFAULT_ENV,
        "RAY_AUTH_TOKEN_PATH": _at_home(TOKEN_PATH, home),
        "RAY_CLOUD_INSTANCE_ID": spec.instance_id,
        "RAY_NODE_TYPE_NAME": spec.node_type,
        "PATH": f"{_at_home(spec.environment, home)}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }
    if spec.kind == "head":
        # What runs on the head is the fabric itself: it must not wait behind the dashboard, as work does (Ray's niceness is 15).
        env["RAY_worker_niceness"] = "0"
        # Ray starts as many workers at once as the node counts CPUs: on a head that takes no work, the actors would come back one by one.
        env["RAY_worker_maximum_startup_concurrency"] = "8"
        # What the head knows of nodes, actors and jobs survives it: embedded, no other service.
        env |= {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": f"{_at_home(GCS_DIRECTORY, home)}/{spec.cluster}"}
    if spec.is_tls:
        files = {name: f"{_at_home(TLS_DIRECTORY, home)}/{name}.pem" for name in ("cert", "key", "ca")}
        env |= {
            "RAY_USE_TLS": "1",
            "RAY_TLS_SERVER_CERT": files["cert"],
            "RAY_TLS_SERVER_KEY": files["key"],
            "RAY_TLS_CA_CERT": files["ca"],
        }
    if spec.fabric_config:
        env["FABRIC_CONFIG"] = _at_home(spec.fabric_config, home)
    return {**env, **spec.env}


def run_script(spec: NodeSpec, home: str) -> str:
    """A shell script that runs its arguments with the cluster's address and token: `~/.tierfabric/run fabric status`."""
    env = ray_environment(spec, home)
    keep = {key: value for key, value in env.items() if key.startswith(("RAY_AUTH", "RAY_USE_TLS", "RAY_TLS", "FABRIC_"))}
    keep |= {"RAY_ADDRESS": f"{spec.head}:{spec.ports.gcs}", "PATH": env["PATH"]}
    exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in sorted(keep.items()))
    return f'#!/bin/sh\n# Runs a command with the address and the token of cluster {spec.cluster}.\n{exports}exec "$@"\n'


def _resources(resources: Mapping[str, float]) -> list[str]:
    flags = []
    custom = {name: amount for name, amount in resources.items() if name not in ("CPU", "GPU", "memory", "object_store_memory")}
    for name, flag in (
        ("CPU", "--num-cpus"),
        ("GPU", "--num-gpus"),
        ("memory", "--memory"),
        ("object_store_memory", "--object-store-memory"),
    ):
        if name in resources:
            flags.append(f"{flag}={int(resources[name])}")
    if custom:
        flags.append(f"--resources={json.dumps(custom, sort_keys=True)}")
    return flags


def _at_home(path: str, home: str) -> str:
    return str(PurePosixPath(home) / path[2:]) if path.startswith("~/") else path
