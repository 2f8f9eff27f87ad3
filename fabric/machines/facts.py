"""What a machine is, seen over one SSH call by a POSIX shell: nothing need be installed there, nothing is changed."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fabric.doctor.check import skew_s
from fabric.machines.ssh import Remote

FACTS_TIMEOUT_S = 40.0

# Prints `name value` lines. $PY: the Python of the environment, or the one to make an environment with; $PORTS: ports to look at.
_SCRIPT = r"""
say() { printf '%s %s\n' "$1" "$2"; }
say host "$(hostname)"; say machine "$(uname -m)"; say home "$HOME"
if py=$(command -v "$PY" 2>/dev/null); then
  say python_path "$py"
  "$py" - <<'EOP' 2>/dev/null
import sys
print("python", ".".join(map(str, sys.version_info[:3])))
try:
    from importlib.metadata import version
    for name in ("ray", "tierfabric"):
        try: print(name, version(name))
        except Exception: pass
    import ensurepip, venv
    print("has_venv", 1)
except ImportError: pass
EOP
else
  for other in python3.13 python3.12 python3.11 python3; do
    seen=$($other -V 2>/dev/null) && say other_python "$seen" && break
  done
fi
say shm_bytes "$(df -B1 -P /dev/shm 2>/dev/null | awk 'NR==2{print $2}')"
say home_free_bytes "$(df -B1 -P "$HOME" 2>/dev/null | awk 'NR==2{print $4}')"
say home_total_bytes "$(df -B1 -P "$HOME" 2>/dev/null | awk 'NR==2{print $2}')"
say tmp_free_bytes "$(df -B1 -P /tmp 2>/dev/null | awk 'NR==2{print $4}')"
say memory_bytes "$(awk '/^MemTotal/{print $2*1024}' /proc/meminfo 2>/dev/null)"
say files "$(ulimit -n)"
for tool in tar nvidia-smi; do command -v $tool >/dev/null 2>&1 && say has_$tool 1; done
if command -v nvidia-smi >/dev/null 2>&1; then
  say nvidia_cards "$(nvidia-smi -L 2>/dev/null | grep -c '^GPU')"
  say nvidia_problem "$(nvidia-smi 2>&1 | grep -i -m1 -e failed -e error -e mismatch)"
fi
[ -d /run/systemd/system ] && say has_systemd 1
touch "$HOME/.tierfabric-probe" 2>/dev/null && rm -f "$HOME/.tierfabric-probe" && say is_home_writable 1
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4=="0A"{n=split($2,a,":"); print a[n]}' | sort -u | while read hex; do
  port=$(printf '%d' "0x$hex"); case " $PORTS " in *" $port "*) say taken "$port";; esac; done
say node_status "$(cat "$HOME/.tierfabric/node/status.json" 2>/dev/null | tr -d '\n')"
if [ -f "$HOME/.tierfabric/node/watchdog.lock" ]; then
  pid=$(cat "$HOME/.tierfabric/node/watchdog.lock"); [ -n "$pid" ] && grep -qs watchdog "/proc/$pid/cmdline" && say watchdog "$pid"
fi
say release "$(cat "$HOME/.tierfabric/release" 2>/dev/null)"
say token "$(sha256sum "$HOME/.tierfabric/node/auth_token" 2>/dev/null | cut -c1-16)"
say clock "$(date +%s.%N)"
"""


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What was seen. `values`: the script's own lines, by name; `taken`: ports that are listened on; `skew_s`: how far the clock is off,
    at the least; `reached_s`: how long the answer took."""

    values: Mapping[str, str]
    taken: frozenset[int] = frozenset()
    skew_s: float = 0.0
    reached_s: float = 0.0
    node: Mapping[str, object] = field(default_factory=dict)

    def text(self, name: str) -> str:
        return self.values.get(name, "")

    def number(self, name: str) -> float | None:
        try:
            return float(self.values[name])
        except (KeyError, ValueError):
            return None

    def has(self, name: str) -> bool:
        return self.values.get(name, "") == "1"


def look(remote: Remote, python: str, ports: Mapping[int, str]) -> MachineFacts:
    """Look at a machine. Raises: SshError."""
    head = f"PY={shlex.quote(python)}; PORTS={shlex.quote(' '.join(map(str, ports)))}\n"
    asked_s = time.time()
    outcome = remote.run("sh -s", stdin=(head + _SCRIPT).encode(), timeout_s=FACTS_TIMEOUT_S)
    return read_facts(outcome.stdout, asked_s, time.time(), outcome.duration_s)


def read_facts(printed: str, asked_s: float, heard_s: float, reached_s: float) -> MachineFacts:
    """Pure: the script's lines as facts. The clock was read at some moment between `asked_s` and `heard_s`."""
    values: dict[str, str] = {}
    taken: set[int] = set()
    for line in printed.splitlines():
        name, _, value = line.partition(" ")
        if name == "taken" and value.isdigit():
            taken.add(int(value))
        elif value.strip():
            values[name] = value.strip()
    try:
        node = json.loads(values.get("node_status", "")) if "watchdog" in values else {}
    except ValueError:
        node = {}
    facts = MachineFacts(values, frozenset(taken), 0.0, reached_s, node if isinstance(node, dict) else {})
    there_s = facts.number("clock")  # None where `date` there knows no nanoseconds
    return facts if there_s is None else replace(facts, skew_s=skew_s(asked_s, there_s, heard_s))
