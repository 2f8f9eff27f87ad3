"""Machines to launch clusters on: network namespaces with an SSH server, a home, a process tree and a /tmp of their own each.

What they share with this machine is the disk below (so that a Python environment need not be copied), the clock and the kernel.
Needs root, `ip` (iproute2) and `sshd` (openssh-server).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SUBNET = "10.212.77"
BRIDGE = "tfbr0"
GATEWAY = f"{SUBNET}.1"
SSHD = "/usr/sbin/sshd"


def why_not() -> str | None:
    """Why there can be no such machines here; None where there can."""
    if os.getuid() != 0:
        return "needs root for network namespaces"
    missing = [name for name in ("ip", "ssh", "ssh-keygen", "rsync", "unshare") if shutil.which(name) is None]
    if not Path(SSHD).exists():
        missing.append("sshd")
    if missing:
        return f"needs {', '.join(missing)} (apt-get install iproute2 openssh-server rsync)"
    probe = subprocess.run(["ip", "netns", "add", "tf-probe"], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", "tf-probe"], capture_output=True, check=False)
    return None if probe.returncode == 0 else "network namespaces are not allowed here"


def until(is_so: Callable[[], bool], what: str, timeout_s: float = 120.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline_s, f"not so after {timeout_s:g} s: {what}"
        time.sleep(0.5)


class Machine:
    """One machine. `home`: its user's home, as a path out here."""

    def __init__(self, world: World, index: int) -> None:
        self.world, self.index = world, index
        self.name = f"tf{index}"
        self.address = f"{SUBNET}.{10 + index}"
        self.root = world.root / self.name
        self.home = self.root / "home"
        self._init: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        """Start it (again): everything but its disk is new."""
        for directory in (self.home / ".ssh", self.root / "tmp"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.root / "tmp").chmod(0o1777)
        shutil.copy(self.world.public_key, self.home / ".ssh" / "authorized_keys")
        (self.home / ".bashrc").touch()
        self._write_files()
        self._init = subprocess.Popen(
            ["ip", "netns", "exec", self.name, "unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child",
             "sh", str(self.root / "boot.sh")],
            stdin=subprocess.DEVNULL, stdout=(self.root / "console.log").open("ab"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._await_ssh()

    def power_off(self) -> None:
        """Every process ends at once."""
        if self._init is not None:
            self._init.kill()
            self._init.wait()
            self._init = None

    def run(self, command: str, *, timeout_s: float = 60.0) -> str:
        """What a shell command prints there, as its user. Raises: CalledProcessError."""
        done = subprocess.run(self.enter(command), capture_output=True, text=True, timeout=timeout_s, check=False)
        if done.returncode:
            error = subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
            error.add_note(f"{done.stdout[-1000:]}\n{done.stderr[-1000:]}")
            raise error
        return done.stdout

    def fabric_nodes(self) -> list[dict[str, Any]]:
        """The nodes in `fabric status -o json`, each with the name of its `tier`."""
        tiers = self.fabric_status()["tiers"]
        return [{**node, "tier": tier["tier"]} for tier in tiers for node in tier["nodes"]]

    def fabric_status(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.run("~/.tierfabric/run fabric status -o json", timeout_s=90))
        return document

    def enter(self, command: str) -> list[str]:
        """A command line, for out here, that runs a shell command in there."""
        pid = str(self.pid_one)
        ours = [word for name in os.environ if name.startswith(("FABRIC_", "RAY_")) for word in ("-u", name)]  # of fabrics out here
        return ["nsenter", "-t", pid, "-n", "-m", "-u", "-i", "-p", "env", *ours, f"HOME={self.home}", "RAY_AUTH_MODE=token",
                "PATH=" + os.environ["PATH"], "sh", "-c", f"cd {self.home}; {command}"]  # fmt: skip

    @property
    def pid_one(self) -> int:
        """The id, out here, of its first process."""
        assert self._init is not None
        children = Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text().split()
        return int(children[0])

    def kill(self, pattern: str) -> int:
        """SIGKILL to each of its processes whose command line matches; how many."""
        listed = self.run(f"pgrep -f '{pattern}' || true").split()
        mine = {line for line in listed if line != "1"}
        killed = 0
        for pid in mine:
            with contextlib.suppress(subprocess.CalledProcessError):
                self.run(f"kill -9 {pid}")
                killed += 1
        return killed

    def _write_files(self) -> None:
        keep = [str(path) for path in {ROOT, (ROOT / ".venv").resolve(), self.world.root} if str(path).startswith("/tmp/")]
        mounts = "\n".join(f"mkdir -p {self.root}/tmp{p[4:]}; mount --rbind {p} {self.root}/tmp{p[4:]}" for p in keep)
        passwd = "".join(
            f"root:x:0:0:root:{self.home}:/bin/bash\n" if line.startswith("root:") else line
            for line in Path("/etc/passwd").read_text().splitlines(keepends=True)
        )
        (self.root / "passwd").write_text(passwd)
        (self.root / "hosts").write_text(f"127.0.0.1 localhost\n{self.address} {self.name}\n")
        (self.root / "sshd_config").write_text(
            f"Port 22\nListenAddress {self.address}\nHostKey {self.world.host_key}\nPidFile none\nPermitRootLogin prohibit-password\n"
            f"AuthorizedKeysFile {self.home}/.ssh/authorized_keys\nStrictModes no\nUsePAM no\nMaxStartups 100\nMaxSessions 100\n"
            "PasswordAuthentication no\nSubsystem sftp internal-sftp\nSetEnv HOSTNAME=" + self.name + "\n"
        )
        (self.root / "boot.sh").write_text(
            f"set -e\nmount --make-rprivate /\nhostname {self.name}\n{mounts}\nmount --rbind {self.root}/tmp /tmp\n"
            f"mount --bind {self.root}/passwd /etc/passwd\nmount --bind {self.root}/hosts /etc/hosts\n"
            "mount -t proc proc /proc\nmount -t tmpfs -o size=1g,mode=1777 tmpfs /dev/shm\nmkdir -p /run/sshd\n" + self._boot_last()
        )

    def _boot_last(self) -> str:
        """The last lines of its boot: what becomes its first process."""
        return f"exec {SSHD} -D -e -f {self.root}/sshd_config\n"

    def _await_ssh(self) -> None:
        deadline_s = time.monotonic() + 20
        while time.monotonic() < deadline_s:
            done = subprocess.run(self.world.ssh(self, "true"), capture_output=True, check=False)
            if done.returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} does not boot: {(self.root / 'console.log').read_text()[-500:]} {done.stderr!r}")


class World:
    """Some machines on one switch, and this one on it too."""

    def __init__(self, count: int, kind: type[Machine] = Machine) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="tf-machines-"))
        self.key = self.root / "id_ed25519"
        self.public_key = self.root / "id_ed25519.pub"
        self.host_key = self.root / "host_key"
        for key in (self.key, self.host_key):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        self.machines = [kind(self, index) for index in range(count)]

    def __enter__(self) -> World:
        _ip("link", "del", BRIDGE, check=False)
        _ip("link", "add", BRIDGE, "type", "bridge")
        _ip("addr", "add", f"{GATEWAY}/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        for machine in self.machines:
            self._wire(machine)
            machine.boot()
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self.machines:
            machine.power_off()
            _ip("netns", "del", machine.name, check=False)
        _ip("link", "del", BRIDGE, check=False)
        shutil.rmtree(self.root, ignore_errors=True)

    def ssh(self, machine: Machine, command: str) -> list[str]:
        return ["ssh", "-i", str(self.key), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR",
                "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=2", f"root@{machine.address}", command]  # fmt: skip

    @staticmethod
    def _wire(machine: Machine) -> None:
        name, outside = machine.name, f"tfv{machine.index}"
        _ip("netns", "del", name, check=False)
        _ip("link", "del", outside, check=False)
        _ip("netns", "add", name)
        _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", outside, "master", BRIDGE, "up")
        for words in (("link", "set", "lo", "up"), ("addr", "add", f"{machine.address}/24", "dev", "eth0"), ("link", "set", "eth0", "up"),
                      ("route", "add", "default", "via", GATEWAY)):  # fmt: skip
            _ip("-n", name, *words)


def _ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True)
