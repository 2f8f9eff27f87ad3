"""Whether the certificates that a cluster file names will do, before any machine is told of them."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fabric.doctor.check import Check, State
from fabric.errors import ConfigError
from fabric.machines.plan import Tls

WHERE = "this machine"
SOON_DAYS = 14


def check_certificates(tls: Tls, now: datetime.datetime | None = None) -> Iterator[Check]:
    """A row for each file."""
    now = now or datetime.datetime.now(datetime.UTC)
    for name, path in (("certificate", tls.cert), ("CA", tls.ca)):
        try:
            yield _dates(name, path, x509.load_pem_x509_certificate(path.expanduser().read_bytes()), now)
        except (OSError, ValueError) as error:
            yield Check(WHERE, name, "fail", f"{path} is no certificate: {error}", "a PEM file, made for all machines of the cluster")
    yield _key(tls)


def refuse_bad(tls: Tls) -> None:
    """Raises: ConfigError (`bad_certificate`) for the first that will not do."""
    for check in check_certificates(tls):
        if check.state == "fail":
            raise ConfigError(check.detail, code="bad_certificate", hint=check.cure)


def _dates(name: str, path: Path, certificate: x509.Certificate, now: datetime.datetime) -> Check:
    ends, begins = certificate.not_valid_after_utc, certificate.not_valid_before_utc
    if now > ends:
        return Check(WHERE, name, "fail", f"{path} expired on {ends:%Y-%m-%d}", "have a new one issued, and name it under provider.tls")
    if now < begins:
        return Check(WHERE, name, "fail", f"{path} is valid only from {begins:%Y-%m-%d}", "is the clock of this machine right?")
    days = (ends - now).days
    state: State = "warn" if days < SOON_DAYS else "ok"
    return Check(WHERE, name, state, f"{path}, {days} days left", "have a new one issued soon" if state == "warn" else "")


def _key(tls: Tls) -> Check:
    path = tls.key.expanduser()
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        certificate = x509.load_pem_x509_certificate(tls.cert.expanduser().read_bytes())
        mode = path.stat().st_mode & 0o777
    except (OSError, ValueError, TypeError) as error:
        return Check(WHERE, "private key", "fail", f"{tls.key} is no private key: {error}", "an unencrypted PEM file")
    if mode & 0o077:
        return Check(WHERE, "private key", "fail", f"{tls.key} is open to others (mode {mode:04o})", f"chmod 600 {tls.key}")
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        return Check(WHERE, "private key", "fail", f"{tls.key} is not the key of {tls.cert}", "name the two that belong together")
    return Check(WHERE, "private key", "ok", str(tls.key))
