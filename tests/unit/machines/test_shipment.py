"""What every machine is given: a wheel that is the running tierfabric, its pins, the token, the settings."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import re
import shutil
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping
from email.parser import Parser
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from fabric.errors import ConfigError
from fabric.machines import ship
from fabric.machines.wheel import PACKAGES, Release, pack
from tests.labs import facts

ROOT = Path(__file__).parents[3]
TOKEN = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return pack(tmp_path_factory.mktemp("wheel"))


# -- the wheel -------------------------------------------------------------------------------------------------------------


def test_the_wheel_holds_every_source_and_nothing_that_was_compiled(release: Release) -> None:
    with zipfile.ZipFile(release.wheel) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        packed = {name: archive.read(name) for name in names if ".dist-info/" not in name}
    sources = {path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert packed == {str(path.relative_to(ROOT)): path.read_bytes() for path in sources}
    assert {"fabric/machines/agent.py", "pools/flavors.yaml", "fabric/py.typed"} <= set(packed) and len(names) == len(set(names))


def test_the_record_tells_the_digest_and_size_of_every_file(release: Release) -> None:
    with zipfile.ZipFile(release.wheel) as archive:
        (record,) = [name for name in archive.namelist() if name.endswith(".dist-info/RECORD")]
        rows = list(csv.reader(io.StringIO(archive.read(record).decode())))
        assert [row[0] for row in rows] == archive.namelist()
        for name, digest, size in rows:
            if name == record:
                assert (digest, size) == ("", "")
                continue
            data = archive.read(name)
            made = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={made}", len(data)), name


def test_name_and_metadata_tell_the_same_version(release: Release) -> None:
    named = re.fullmatch(r"tierfabric-(.+\+[0-9a-f]{8})-py3-none-any\.whl", release.wheel.name)
    assert named is not None and named[1].startswith(version("tierfabric").partition("+")[0] + "+")
    with zipfile.ZipFile(release.wheel) as archive:
        info = f"tierfabric-{named[1]}.dist-info"
        about = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        assert (about["Name"], about.get_all("Version")) == ("tierfabric", [named[1]])
        assert any(line.startswith("ray[") for line in about.get_all("Requires-Dist") or [])
        assert "fabric = fabric.cli.main:main" in archive.read(f"{info}/entry_points.txt").decode()
        assert "Root-Is-Purelib: true" in archive.read(f"{info}/WHEEL").decode()


def test_the_same_sources_give_the_same_bytes_and_leave_one_wheel(release: Release, tmp_path: Path) -> None:
    (tmp_path / "tierfabric-0.0.1-py3-none-any.whl").write_text("old")
    again = pack(tmp_path)
    assert again.wheel.read_bytes() == release.wheel.read_bytes() and again.wheel.name == release.wheel.name
    assert (again.digest, again.constraints) == (release.digest, release.constraints)
    assert [path.name for path in tmp_path.iterdir()] == [again.wheel.name]


def test_pins_are_what_is_installed_here_of_all_that_is_needed(release: Release) -> None:
    pins = dict(line.split("==") for line in release.constraints.splitlines())
    for name in ("ray", "numpy", "pydantic", "pydantic-core", "cryptography", "aiohttp", "grpcio"):
        assert pins[name] == version(name)
    assert "tierfabric" not in pins and not {"pytest", "ruff", "mypy"} & set(pins)
    assert list(pins) == sorted(pins) and all(re.fullmatch(r"[a-z0-9-]+", name) for name in pins)


# -- the token -------------------------------------------------------------------------------------------------------------


def test_a_token_is_made_once_and_is_nobody_elses(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        path = ship.make_token(tmp_path / "deep" / "auth_token")
    finally:
        os.umask(old)
    first = ship.read_token(path)
    assert len(first) == 64 and stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert ship.read_token(ship.make_token(path)) == first
    assert ship.read_token(ship.make_token(tmp_path / "other")) != first


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o666, 0o601])
def test_a_token_that_others_may_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "auth_token"
    path.write_text(TOKEN)
    path.chmod(mode)
    with pytest.raises(ConfigError) as error:
        ship.read_token(path)
    assert error.value.code == "token_open" and f"{mode:04o}" in error.value.message and TOKEN not in error.value.render()
    assert error.value.hint is not None and f"chmod 600 {path}" in error.value.hint


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_token_of_ones_own_is_read_without_what_surrounds_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "auth_token"
    path.write_text(f" {TOKEN}\n")
    path.chmod(mode)
    assert ship.read_token(path) == TOKEN


@pytest.mark.parametrize("text", ["", "\n", "short"])
def test_what_is_no_token_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "auth_token"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError) as error:
        ship.read_token(path)
    assert error.value.code == "bad_token"


# -- the folder ------------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def packed_once(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packing takes a second: the same wheel is laid into every folder."""

    def lay(folder: Path) -> Release:
        shutil.copy(release.wheel, folder)
        return release

    monkeypatch.setattr(ship.wheel, "pack", lay)


def prepared(folder: Path, **options: object) -> ship.Shipment:
    token = folder.parent / "auth_token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    return ship.prepare(folder, **{"token": token, **options})  # type: ignore[arg-type]


def unpacked(shipment: ship.Shipment) -> Mapping[str, tuple[int, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(shipment.archive)) as archive:
        files = {member.name: member for member in archive.getmembers() if member.isfile()}
        return {name[2:]: (member.mode & 0o777, archive.extractfile(member).read()) for name, member in files.items()}  # type: ignore[union-attr]


def test_a_shipment_holds_all_of_it_and_is_found_again(tmp_path: Path) -> None:
    tls = {}
    for name in ("cert", "key", "ca"):
        tls[name] = tmp_path / name
        tls[name].write_text(f"the {name}")
    shipment = prepared(tmp_path / "ship", tls=tls, settings={"name": "lab"})
    files = unpacked(shipment)
    (wheel,) = [name for name in files if name.endswith(".whl")]
    secret = {"auth_token", "tls/cert.pem", "tls/key.pem", "tls/ca.pem"}
    assert set(files) == {wheel, "constraints.txt", "fabric.yaml", "release", "install.sh"} | secret
    assert {name for name, (mode, _) in files.items() if mode == 0o600} >= secret
    assert files["auth_token"][1].decode() == TOKEN and files["tls/key.pem"][1] == b"the key"
    assert yaml.safe_load(files["fabric.yaml"][1]) == {"name": "lab"} and files["release"][1].decode().strip() == shipment.release
    found = ship.opened(shipment.folder)
    assert (found.release, found.token, found.folder) == (shipment.release, shipment.token, shipment.folder)


def test_what_is_no_longer_wanted_is_not_shipped(tmp_path: Path) -> None:
    (tmp_path / "cert").write_text("x")
    prepared(tmp_path / "ship", tls={"cert": tmp_path / "cert"})
    assert not [name for name in unpacked(prepared(tmp_path / "ship")) if name.startswith("tls")]


def test_other_settings_are_another_release_and_another_token_is_not(tmp_path: Path) -> None:
    plain, same = prepared(tmp_path / "ship"), prepared(tmp_path / "ship")
    other = prepared(tmp_path / "ship", settings={"name": "other"})
    assert plain.release == same.release != other.release and plain.token == other.token
    assert ship.prepare(tmp_path / "open", token=None).token == ""


def test_a_machine_has_it_when_release_and_token_are_the_same(tmp_path: Path) -> None:
    shipment = prepared(tmp_path / "ship")
    good = {"release": shipment.release, "token": shipment.token}
    assert ship.is_there(facts(good), shipment)
    assert not ship.is_there(facts({**good, "release": "older"}), shipment)
    assert not ship.is_there(facts({**good, "token": None}), shipment)


def install(shipment: ship.Shipment, home: Path, environment: str = "/opt/env") -> subprocess.CompletedProcess[str]:
    there = home / ".tierfabric" / "ship"
    there.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(shipment.archive)) as archive:
        archive.extractall(there, filter="data")
    env = {"HOME": str(home), "PATH": os.environ["PATH"]}
    return subprocess.run(["sh", str(there / "install.sh"), environment, "python3"], env=env, capture_output=True, text=True, check=False)


def test_installing_beside_an_environment_that_is_there_only_lays_files_down_and_may_be_done_again(tmp_path: Path) -> None:
    shipment, home = prepared(tmp_path / "ship", settings={"name": "lab"}), tmp_path / "home"
    for _ in range(2):
        done = install(shipment, home)
        assert (done.returncode, done.stderr) == (0, "")
    ours = home / ".tierfabric"
    assert (ours / "release").read_text().strip() == shipment.release and not (ours / "venv").exists()
    for token in (ours / "node" / "auth_token", home / ".ray" / "auth_token"):
        assert token.read_text() == TOKEN and stat.S_IMODE(token.stat().st_mode) == 0o600
    assert yaml.safe_load((ours / "fabric.yaml").read_text()) == {"name": "lab"}


def test_installing_never_takes_the_users_own_ray_token_away(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray" / "auth_token").write_text("of another cluster")
    assert install(prepared(tmp_path / "ship"), home).returncode == 0
    assert (home / ".ray" / "auth_token").read_text() == "of another cluster"
    assert (home / ".tierfabric" / "node" / "auth_token").read_text() == TOKEN
