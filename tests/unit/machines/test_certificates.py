"""Certificates that will not do are found before any machine is told of them."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fabric.errors import ConfigError
from fabric.machines.certificates import check_certificates, refuse_bad
from fabric.machines.plan import Tls

NOW = datetime.datetime(2030, 6, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


def make(
    folder: Path, *, begins: datetime.datetime = NOW - DAY, ends: datetime.datetime = NOW + 90 * DAY, password: bytes | None = None
) -> Tls:
    """A certificate of its own authority, its key with mode 0600."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    (folder / "cert.pem").write_bytes(pem)
    (folder / "ca.pem").write_bytes(pem)
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden))
    (folder / "key.pem").chmod(0o600)
    return Tls(cert=folder / "cert.pem", key=folder / "key.pem", ca=folder / "ca.pem")


def found(tls: Tls) -> dict[str, tuple[str, str, str]]:
    return {check.name: (check.state, check.detail, check.cure) for check in check_certificates(tls, NOW)}


def test_good_ones_pass(tmp_path: Path) -> None:
    rows = found(make(tmp_path))
    assert list(rows) == ["certificate", "CA", "private key"]
    assert {state for state, _, _ in rows.values()} == {"ok"} and {cure for _, _, cure in rows.values()} == {""}
    assert "90 days left" in rows["certificate"][1]


@pytest.mark.parametrize(
    ("begins", "ends", "state", "in_detail", "in_cure"),
    [
        (NOW - 90 * DAY, NOW - DAY, "fail", "expired on 2030-05-31", "new one issued"),
        (NOW + DAY, NOW + 90 * DAY, "fail", "valid only from 2030-06-02", "clock"),
        (NOW - DAY, NOW + 13 * DAY, "warn", "13 days left", "soon"),
        (NOW - DAY, NOW + 14 * DAY, "ok", "14 days left", ""),
    ],
)
def test_the_dates_are_looked_at(
    tmp_path: Path, begins: datetime.datetime, ends: datetime.datetime, state: str, in_detail: str, in_cure: str
) -> None:
    rows = found(make(tmp_path, begins=begins, ends=ends))
    for name in ("certificate", "CA"):
        assert rows[name][0] == state and in_detail in rows[name][1] and in_cure in rows[name][2]
    assert rows["private key"][0] == "ok"


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    tls = make(tmp_path)
    tls.key.chmod(0o640)
    state, detail, cure = found(tls)["private key"]
    assert state == "fail" and "mode 0640" in detail and cure == f"chmod 600 {tls.key}"


def test_the_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    tls, other = make(tmp_path / "one"), make(tmp_path / "other")
    state, detail, _ = found(tls.model_copy(update={"key": other.key}))["private key"]
    assert state == "fail" and f"is not the key of {tls.cert}" in detail


def test_an_encrypted_key_is_refused(tmp_path: Path) -> None:
    state, detail, cure = found(make(tmp_path, password=b"secret"))["private key"]
    assert state == "fail" and "is no private key" in detail and "unencrypted" in cure


@pytest.mark.parametrize("name", ["cert", "ca", "key"])
@pytest.mark.parametrize("text", [None, "", "not PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_that_is_missing_or_no_pem_is_named(tmp_path: Path, name: str, text: str | None) -> None:
    tls = make(tmp_path)
    path: Path = getattr(tls, name)
    path.unlink()
    if text is not None:
        path.write_text(text)
        path.chmod(0o600)
    row = found(tls)[{"cert": "certificate", "ca": "CA", "key": "private key"}[name]]
    assert row[0] == "fail" and str(path) in row[1] and "PEM" in row[2]


def test_a_launch_stops_at_the_first_that_will_not_do(tmp_path: Path) -> None:
    today = datetime.datetime.now(datetime.UTC)
    refuse_bad(make(tmp_path / "good", begins=today - DAY, ends=today + 5 * DAY))
    with pytest.raises(ConfigError, match="expired") as error:
        refuse_bad(make(tmp_path / "bad", begins=today - 9 * DAY, ends=today - DAY))
    assert error.value.code == "bad_certificate" and error.value.hint is not None and "provider.tls" in error.value.hint
