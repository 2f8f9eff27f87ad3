"""Closes what answers without asking who is there: Ray's metrics, the load balancer's own pages. Only the cluster's machines get in.

Ray authenticates its other doors by the token; these it has left open to whoever reaches the machine. Where nftables is there and may be
used, a table of its own shuts them; where not, the doctor says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from fabric.machines.spec import NodeSpec

TABLE = "tierfabric"
UNGUARDED: dict[int, str] = {
    44217: "the autoscaler's metrics",
    44227: "the dashboard's metrics",
    8404: "HAProxy's statistics",
    9101: "HAProxy's metrics",
}
"""Ports that Ray 2.60 opens on every address and gives no setting for, beside the metrics of each node."""


def rules(ports: Sequence[int], friends: Sequence[str]) -> str:
    """Pure: an nftables script that replaces the table. `friends`: addresses and networks that may reach the ports."""
    four = ", ".join(sorted({*(host for host in friends if ":" not in host), "127.0.0.0/8"}))
    six = ", ".join(sorted({*(host for host in friends if ":" in host), "::1"}))
    listed = ", ".join(map(str, sorted(ports)))
    return f"""table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
  chain input {{
    type filter hook input priority filter; policy accept;
    tcp dport {{ {listed} }} ip saddr {{ {four} }} accept
    tcp dport {{ {listed} }} ip6 saddr {{ {six} }} accept
    tcp dport {{ {listed} }} drop
  }}
}}
"""


def close(spec: NodeSpec) -> bool:
    """Shut the ports of this machine; whether that could be done."""
    if os.getuid() or shutil.which("nft") is None:
        return False
    text = rules([spec.ports.metrics, *UNGUARDED], [*spec.friends, spec.address, spec.head])
    return subprocess.run(["nft", "-f", "-"], input=text, text=True, capture_output=True, check=False).returncode == 0


def open_again() -> None:
    """Take the table away."""
    if not os.getuid() and shutil.which("nft") is not None:
        subprocess.run(["nft", "delete", "table", "inet", TABLE], capture_output=True, check=False)
