"""Pure: what a machine's facts say about the node that it is to run. What fails would not start, or not live long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fabric.doctor.check import GOOD_FILES, GOOD_SKEW_S, LEAST_DISK_BYTES, LEAST_FILES, WORST_SKEW_S, Check, State
from fabric.machines.facts import MachineFacts
from fabric.show import gib
from fabric.types import SLOWDOWN_LABEL, Flavor

INSTALL_DISK_BYTES = 4 * 2**30
"""What Ray, its dashboard, Serve and Train with all that they need take on disk, and as much again while pip unpacks (measured: 1.9 GB)."""
LEAST_SHM_BYTES = 128 * 2**20
STORE_FRAC = 0.3
"""The part of its memory that Ray gives to objects by default. Source: Ray 2.60."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a machine is to become. `environment`: a Python environment that is there already; otherwise one is made with `python`.

    `python_version`, `ray`, `tierfabric`: what the launching machine has, and all must have. `release`: what is to be installed.
    """

    cluster: str
    kind: str
    node_type: str
    labels: Mapping[str, str]
    resources: Mapping[str, float]
    ports: Mapping[int, str]
    environment: str | None
    python: str
    python_version: str
    ray: str
    tierfabric: str
    release: str


def check_machine(where: str, facts: MachineFacts, wanted: Wanted, catalogue: Mapping[str, Flavor]) -> list[Check]:
    """Every check of one machine, in the order in which they would be mended."""
    found = [
        ("ssh", "ok", f"answers in {facts.reached_s:.1f} s", ""),
        *_python(facts, wanted),
        *_versions(facts, wanted),
        *_node(facts, wanted),
        *_ports(facts, wanted),
        *_disk(facts, wanted),
        _shm(facts),
        _clock(facts),
        _files(facts),
        *_drivers(facts, wanted, catalogue),
    ]
    return [Check(where, name, state, detail, cure) for name, state, detail, cure in found]


Finding = tuple[str, State, str, str]


def is_running(facts: MachineFacts, cluster: str) -> bool:
    """Whether the machine runs a node of this cluster now."""
    return facts.node.get("cluster") == cluster


def _python(facts: MachineFacts, wanted: Wanted) -> Iterator[Finding]:
    minor = _minor(wanted.python_version)
    there = facts.text("python")
    if not there:
        other = f" (it has {facts.text('other_python')})" if facts.text("other_python") else ""
        if wanted.environment:
            yield (
                "python",
                "fail",
                f"{wanted.environment}/bin/python is not there",
                "make the environment there, or leave provider.environment out",
            )
        else:
            cure = f"apt install {wanted.python} {wanted.python}-venv, or name another under provider.python"
            yield "python", "fail", f"{wanted.python} is not installed{other}", cure
        return
    if _minor(there) != minor:
        cure = f"install Python {minor} there: Ray needs the same on all machines, and this one has {wanted.python_version}"
        yield "python", "fail", f"{there}, but {minor} is needed", cure
        return
    if not wanted.environment and not facts.has("has_venv"):
        yield "python", "fail", f"{there} without venv", f"apt install {wanted.python}-venv"
        return
    yield "python", "ok", there, ""


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _versions(facts: MachineFacts, wanted: Wanted) -> Iterator[Finding]:
    if not wanted.environment or _minor(facts.text("python")) != _minor(wanted.python_version):
        return
    for name, mine in (("ray", wanted.ray), ("tierfabric", wanted.tierfabric)):
        theirs = facts.text(name)
        cure = f"{wanted.environment}/bin/pip install {name}=={mine}; or leave provider.environment out, and one is made"
        if theirs != mine:
            yield name, "fail", f"{theirs or 'not installed'}, but {mine} is needed", cure
        else:
            yield name, "ok", theirs, ""


def _node(facts: MachineFacts, wanted: Wanted) -> Iterator[Finding]:
    cluster = facts.node.get("cluster")
    if cluster and cluster != wanted.cluster:
        yield "node", "fail", f"it runs a node of cluster {cluster!r}", f"fabric down for {cluster!r} first, or take it out of this file"
    elif cluster:
        yield "node", "ok", f"runs already ({facts.node.get('state')})", ""


def _ports(facts: MachineFacts, wanted: Wanted) -> Iterator[Finding]:
    taken = sorted(facts.taken & set(wanted.ports)) if not facts.node.get("cluster") else []
    for port in taken:
        cure = f"see who with `ss -ltnp | grep {port}` there (another Ray? `ray stop`), or choose another under provider.ports"
        yield f"port {port}", "fail", f"taken, but {wanted.ports[port]} needs it", cure
    if not taken:
        yield "ports", "ok", f"{len(wanted.ports)} free" if not facts.node.get("cluster") else "ours", ""


def _disk(facts: MachineFacts, wanted: Wanted) -> Iterator[Finding]:
    free = facts.number("home_free_bytes")
    is_installed = bool(wanted.environment) or facts.text("release") == wanted.release
    least = LEAST_DISK_BYTES if is_installed else INSTALL_DISK_BYTES
    home = facts.text("home") or "~"
    if not facts.has("is_home_writable"):
        yield "disk", "fail", f"{home} cannot be written ({gib(int(free or 0))} free)", f"make room there, or chown {home}"
        return
    for name, path, need in (("home_free_bytes", home, least), ("tmp_free_bytes", "/tmp", LEAST_DISK_BYTES)):
        free = facts.number(name)
        if free is not None and free < need:
            yield (
                "disk",
                "fail",
                f"{path}: {gib(int(free))} free, {gib(need)} needed",
                f"make room on {path} (old sessions lie in /tmp/ray)",
            )
            return
    yield "disk", "ok", f"{gib(int(facts.number('home_free_bytes') or 0))} free", ""


def _shm(facts: MachineFacts) -> Finding:
    shm, memory = facts.number("shm_bytes"), facts.number("memory_bytes")
    if shm is None or memory is None:
        return "/dev/shm", "warn", "cannot be seen", "mount a tmpfs on /dev/shm: Ray keeps objects there"
    detail = f"{gib(int(shm))} of {gib(int(memory))} memory"
    cure = "mount -o remount,size=30% /dev/shm; in a container: --shm-size. Ray uses /tmp until then, slowly"
    if shm < LEAST_SHM_BYTES:
        return "/dev/shm", "fail", detail, cure
    return "/dev/shm", "warn" if shm < STORE_FRAC * memory * 0.5 else "ok", detail, cure if shm < STORE_FRAC * memory * 0.5 else ""


def _clock(facts: MachineFacts) -> Finding:
    detail = f"{facts.skew_s:.1f} s off" if facts.skew_s > GOOD_SKEW_S else "right"
    if facts.skew_s > WORST_SKEW_S:
        return "clock", "fail", detail, "timedatectl set-ntp true (or install chrony): leases and logs need one time"
    return "clock", "warn" if facts.skew_s > GOOD_SKEW_S else "ok", detail, "timedatectl set-ntp true" if facts.skew_s > GOOD_SKEW_S else ""


def _files(facts: MachineFacts) -> Finding:
    files = facts.number("files")  # `unlimited` reads as None
    if files is not None and files < GOOD_FILES:
        state: State = "fail" if files < LEAST_FILES else "warn"
        return "ulimit -n", state, f"{files:g} open files allowed", "LimitNOFILE or /etc/security/limits.conf: 65536"
    return "ulimit -n", "ok", "unlimited" if files is None else f"{files:g}", ""


def _drivers(facts: MachineFacts, wanted: Wanted, catalogue: Mapping[str, Flavor]) -> Iterator[Finding]:
    flavor = catalogue.get(wanted.labels.get("flavor", ""))
    is_nvidia = flavor is not None and flavor.family.startswith("nvidia")
    if not is_nvidia or SLOWDOWN_LABEL in wanted.labels:  # a stand-in says so by its label, and needs no card
        return
    need = int(wanted.resources.get("GPU", 1))
    if not facts.has("has_nvidia-smi"):
        yield "driver", "fail", f"no NVIDIA driver, but {need} GPU are declared", "install the driver, or mend the labels of its node type"
        return
    cards, problem = int(facts.number("nvidia_cards") or 0), facts.text("nvidia_problem")
    if cards < need:
        yield "driver", "fail", problem or f"nvidia-smi lists {cards} GPU, {need} are declared", "reboot after a driver update; see dmesg"
    else:
        yield "driver", "ok", f"{cards} GPU", ""
