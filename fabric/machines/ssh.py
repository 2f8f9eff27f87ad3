"""Runs commands on a machine over SSH, by the OpenSSH client: keys, agents, jump hosts and `~/.ssh/config` work as users know them.

What stops SSH itself is told apart from what a command says: an `SshError` names the cause and its mend.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from fabric.errors import RuntimeFault

CONNECT_TIMEOUT_S = 8
SSH_FAILED = 255
LOG_LINES = 12

# What OpenSSH says -> code, what it means, how it is mended. The first that is found counts.
_CAUSES = (
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "host_key_changed", "its host key has changed", "if it was reinstalled: ssh-keygen -R"
     " {noted} -f {known_hosts}"),
    ("UNPROTECTED PRIVATE KEY FILE", "ssh_key_open", "the private key can be read by others, so that ssh ignores it", "chmod 600 {key}"),
    ("Identity file", "ssh_key_missing", "the private key is not there: {key}", "auth.ssh_private_key in the cluster file names it"),
    ("invalid format", "ssh_key_invalid", "{key} is no private key", "auth.ssh_private_key must name the private half, not the .pub"),
    ("error in libcrypto", "ssh_key_invalid", "{key} is no private key", "auth.ssh_private_key must name the private half, not the .pub"),
    ("Permission denied", "ssh_refused", "SSH refuses the key for user {user}", "ssh-copy-id -i {key} {user}@{host}, or mend auth: in the"
     " cluster file"),
    ("Host key verification failed", "host_key_unknown", "its host key is not the known one", "ssh-keygen -R {noted} -f {known_hosts}"),
    ("Could not resolve", "host_unknown", "no such host name", "use its address, or mend DNS"),
    ("Connection refused", "no_ssh", "nothing listens on port {port}", "start sshd there (apt install openssh-server), or set"
     " provider.ssh_port"),
    ("timed out", "unreachable", "no answer on port {port}", "is it on, and does the network or a firewall let you through?"),
    ("No route to host", "unreachable", "there is no way to it", "is it on, and does the network or a firewall let you through?"),
    ("Network is unreachable", "unreachable", "there is no way to it", "is it on, and does the network or a firewall let you through?"),
    ("Connection closed", "ssh_closed", "it closed the connection", "see the log of sshd there: too many connections, or not allowed in"),
    ("Connection reset", "ssh_closed", "it closed the connection", "see the log of sshd there: too many connections, or not allowed in"),
    ("closed by remote host", "ssh_lost", "the connection was lost in the middle", "did it reboot? run the same command again"),
    ("Broken pipe", "ssh_lost", "the connection was lost in the middle", "did it reboot? run the same command again"),
    ("not responding", "ssh_lost", "it stopped answering in the middle", "did it reboot? run the same command again"),
)  # fmt: skip


class SshError(RuntimeFault):
    """A machine cannot be reached, or was lost."""

    code = "ssh_failed"


@dataclass(frozen=True, slots=True)
class SshAccess:
    """How machines are reached. `known_hosts`: a file of the cluster's own, where new machines are noted and changed ones refused."""

    user: str
    private_key: str | None = None
    port: int = 22
    proxy_command: str | None = None
    known_hosts: str = "~/.tierfabric/known_hosts"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a command. `status`: its exit status."""

    status: int
    stdout: str
    stderr: str
    duration_s: float

    def last_lines(self, count: int = LOG_LINES) -> str:
        lines = [line for line in (self.stdout + "\n" + self.stderr).splitlines() if line.strip()]
        return "\n".join(lines[-count:])


@dataclass(slots=True)
class Remote:
    """One machine. Connections are shared between commands while they follow each other within a minute."""

    host: str
    access: SshAccess
    _options: list[str] = field(default_factory=list)

    def run(self, command: str, *, stdin: bytes = b"", timeout_s: float = 60.0) -> Outcome:
        """Run a shell command there. Raises: SshError where SSH fails, or no end comes within `timeout_s`."""
        started_s = time.monotonic()
        try:
            done = subprocess.run(
                [*self.argv(), command], input=stdin, capture_output=True, timeout=timeout_s, check=False, env=_plain_environment()
            )
        except subprocess.TimeoutExpired as error:
            said = (error.stderr or b"").decode(errors="replace").strip()[-300:]
            detail = f" ({said})" if said else ""
            raise SshError(
                f"{self.host}: no end after {timeout_s:g} s of: {command.splitlines()[0][:80]}{detail}",
                code="timed_out",
                hint="is the machine overloaded, or its disk dead? run the same command again",
            ) from None
        stderr = done.stderr.decode(errors="replace")
        if done.returncode == SSH_FAILED:
            raise ssh_error(self.host, self.access, stderr)
        return Outcome(done.returncode, done.stdout.decode(errors="replace"), stderr, time.monotonic() - started_s)

    def argv(self) -> list[str]:
        """The ssh command line, up to what is to be run."""
        if not self._options:
            self._options = _options(self.access)
        return ["ssh", *self._options, f"{self.access.user}@{self.host}"]


def ssh_error(host: str, access: SshAccess, said: str) -> SshError:
    """Pure: the error that ssh's own words mean."""
    words = {
        "host": host,
        "noted": host if access.port == 22 else f"'[{host}]:{access.port}'",
        "user": access.user,
        "port": access.port,
        "key": access.private_key or "the key",
        "known_hosts": access.known_hosts,
    }
    for sign, code, meaning, mend in _CAUSES:
        if sign in said:
            return SshError(f"{host}: {meaning.format(**words)}", code=code, hint=mend.format(**words))
    if not said.strip():  # a shared connection that breaks says nothing; one that cannot be made does
        return SshError(f"{host}: the connection was lost in the middle", code="ssh_lost", hint="did it reboot? run the same command again")
    return SshError(f"{host}: ssh failed: {said.strip().splitlines()[-1]}", hint=f"ssh -v {access.user}@{host} shows more")


def _options(access: SshAccess) -> list[str]:
    known_hosts = Path(access.known_hosts).expanduser()
    known_hosts.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    options: dict[str, object] = {
        "BatchMode": "yes",
        "ConnectTimeout": CONNECT_TIMEOUT_S,
        "StrictHostKeyChecking": "accept-new",
        "UserKnownHostsFile": known_hosts,
        "ServerAliveInterval": 3,
        "ServerAliveCountMax": 4,
        "ControlMaster": "auto",
        "ControlPath": f"{_sockets(access)}/%C",
        "ControlPersist": 60,
        "LogLevel": "ERROR",
        "Port": access.port,
    }
    if access.proxy_command:
        options["ProxyCommand"] = access.proxy_command
    flags = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    if access.private_key:
        flags += ["-i", str(Path(access.private_key).expanduser()), "-o", "IdentitiesOnly=yes"]
    return flags


def _sockets(access: SshAccess) -> str:
    """A short path (a socket's name may have 104 characters), another for each key: a wrong key must not ride on a right one's session."""
    means = hashlib.sha256(f"{access.private_key} {access.proxy_command}".encode()).hexdigest()[:8]
    path = Path(tempfile.gettempdir()) / f"tierfabric-ssh-{os.getuid()}" / means
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(path)


def _plain_environment() -> dict[str, str]:
    """ssh's own messages, in English; no prompt on a screen."""
    return {**os.environ, "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"}
