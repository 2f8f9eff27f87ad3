"""What goes wrong on the machines that people own, done to a test machine, and undone. Each names the words that must tell of it."""

from __future__ import annotations

import datetime
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.machines import ROOT, Machine, World

Config = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """`spoil` does it and gives back how it is undone. `name`: the row of the doctor that fails; `says`: what must be in it.
    `where`: `machine`, or `here` for what is wrong on the launching machine. `cure`: a word of the mend."""

    key: str
    where: str
    name: str
    says: str
    cure: str
    spoil: Callable[[World, Machine, Config, Path], Callable[[], None]]


def _nothing() -> None:
    pass


def _no_ssh(world: World, machine: Machine, config: Config, laptop: Path) -> Callable[[], None]:
    machine.run("nft add table inet t; nft 'add chain inet t i { type filter hook input priority -5; }'; "
                "nft add rule inet t i tcp dport 22 reject with tcp reset")  # fmt: skip
    _forget_sessions()
    return lambda: _ignore(machine.run("nft delete table inet t"))


def _other_python(world: World, machine: Machine, config: Config, laptop: Path) -> Callable[[], None]:
    fake = machine.root / "python"
    fake.write_text("#!/bin/sh\necho python 3.9.18\n")
    fake.chmod(0o755)
    target = (ROOT / ".venv" / "bin" / "python").resolve()
    machine.run(f"mount --bind {fake} {target}")
    return lambda: _ignore(machine.run(f"umount {target}"))


def _other_ray(world: World, machine: Machine, config: Config, laptop: Path) -> Callable[[], None]:
    info = next((ROOT / ".venv").resolve().glob("lib/python3*/site-packages/ray-*.dist-info"))
    fake = machine.root / "ray-info"
    fake.mkdir(exist_ok=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: ray\nVersion: 2.9.3\n")
    machine.run(f"mount --bind {fake} {info}")
    return lambda: _ignore(machine.run(f"umount {info}"))


def _full_disk(world: World, machine: Machine, config: Config, laptop: Path) -> Callable[[], None]:
    keys = (machine.home / ".ssh" / "authorized_keys").read_text()
    machine.run(f"mount -t tmpfs -o size=600k tmpfs {machine.home}")
    machine.run(f"mkdir -p {machine.home}/.ssh && printf '%s' '{keys}' > {machine.home}/.ssh/authorized_keys"
                f" && touch {machine.home}/.bashrc && dd if=/dev/zero of={machine.home}/full bs=1k count=2000 2>/dev/null; true")  # fmt: skip
    return lambda: _ignore(machine.run(f"cd /; umount -l {machine.home}"))


def _wrong_key(world: World, machine: Machine, config: Config, laptop: Path) -> Callable[[], None]:
    keys = machine.home / ".ssh" / "authorized_keys"
    kept = keys.read_text()
    keys.write_text("")
    _forget_sessions()
    return lambda: _ignore(keys.write_text(kept))


def _port_taken(world: World, machine: Machine, config: Config, laptop: Path) -> Callable[[], None]:
    listener = subprocess.Popen(
        machine.enter("exec python3 -c 'import socket,time; s=socket.create_server((\"\", 6381)); time.sleep(600)'")
    )
    _await_port(machine.address, 6381)

    def undo() -> None:
        machine.kill("create_server")
        listener.wait()

    return undo


def _unknown_key(world: World, machine: Machine, config: Config, laptop: Path) -> Callable[[], None]:
    config["available_node_types"]["hot"]["min_worker"] = 1
    return _nothing


def _open_token(world: World, machine: Machine, config: Config, laptop: Path) -> Callable[[], None]:
    token = laptop / ".tierfabric" / "clusters" / config["cluster_name"] / "auth_token"
    token.parent.mkdir(parents=True, exist_ok=True)
    token.write_text("ab" * 32)
    token.chmod(0o644)
    return token.unlink


def _expired(world: World, machine: Machine, config: Config, laptop: Path) -> Callable[[], None]:
    now = datetime.datetime.now(datetime.UTC)
    config["provider"]["tls"] = certificates(laptop / "tls", now - datetime.timedelta(days=90), now - datetime.timedelta(days=2))
    return _nothing


FAULTS = (
    Fault("no_ssh", "machine", "ssh", "nothing listens on port 22", "sshd", _no_ssh),
    Fault("other_python", "machine", "python", "3.9.18", "3.11", _other_python),
    Fault("other_ray", "machine", "ray", "2.9.3", "pip install", _other_ray),
    Fault("full_disk", "machine", "disk", "free", "make room", _full_disk),
    Fault("wrong_key", "machine", "ssh", "SSH refuses the key", "ssh-copy-id", _wrong_key),
    Fault("port_taken", "machine", "port 6381", "taken", "ss -ltnp", _port_taken),
    Fault("unknown_key", "here", "cluster file", "min_worker", "min_workers", _unknown_key),
    Fault("open_token", "here", "token", "open to others", "chmod 600", _open_token),
    Fault("expired_certificate", "here", "certificate", "expired", "new one", _expired),
)


def certificates(folder: Path, begins: datetime.datetime, ends: datetime.datetime, addresses: tuple[str, ...] = ()) -> dict[str, str]:
    """A self-signed certificate for machines, as `provider.tls` wants it: its files by name."""
    import ipaddress

    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tierfabric test")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", *addresses)])
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(begins).not_valid_after(ends).add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    for file, content in (("cert.pem", pem), ("ca.pem", pem), ("key.pem", private)):
        (folder / file).write_bytes(content)
        (folder / file).chmod(0o600)
    return {name: str(folder / f"{name}.pem") for name in ("cert", "key", "ca")}


def _await_port(host: str, port: int) -> None:
    import time

    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on {host}:{port}")


def _forget_sessions() -> None:
    """ssh's shared connections outlive what was changed: end them."""
    subprocess.run(["pkill", "-f", "tierfabric-ssh-"], check=False)


def _ignore(_: object) -> None:
    pass
