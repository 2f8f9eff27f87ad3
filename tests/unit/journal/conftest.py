"""Empty databases of each kind for the journal's tests.

PostgreSQL is a real server: the one at FABRIC_TEST_POSTGRES_URL (SQLAlchemy URL; tests make schemas of their own there), else one
that these tests start from the binaries in PATH or in /usr/lib/postgresql.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from fabric.journal import Journal


def url_of(directory: Path) -> str:
    return f"sqlite:///{directory / 'journal.db'}"


def binary(name: str) -> str | None:
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(installed[-1]) if installed else None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    pytest.importorskip("psycopg", reason="PostgreSQL's driver psycopg is not installed")
    if given := os.environ.get("FABRIC_TEST_POSTGRES_URL"):
        yield given
        return
    initdb, pg_ctl = binary("initdb"), binary("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed, and FABRIC_TEST_POSTGRES_URL is not set")
    # PostgreSQL refuses to run as root, and a socket's path must be short.
    user = "nobody" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    if user is not None:
        shutil.chown(folder, user)
    run = functools.partial(subprocess.run, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL, timeout=60)
    run([initdb, "-D", "data", "-U", "fabric", "-A", "trust", "-E", "UTF8", "--no-sync"])
    run([pg_ctl, "-D", "data", "-w", "-l", "log", "-o", f"-c listen_addresses= -k {folder}", "start"])
    yield f"postgresql+psycopg://fabric@/postgres?host={folder}"
    run([pg_ctl, "-D", "data", "-m", "immediate", "stop"])
    shutil.rmtree(folder)


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """A schema of the test's own."""
    schema = f"t{uuid.uuid4().hex}"
    engine = create_engine(postgres)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    yield f"{postgres}{'&' if '?' in postgres else '?'}options=-csearch_path%3D{schema}"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def journal_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return url_of(tmp_path)
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def journal(journal_url: str) -> Iterator[Journal]:
    made = Journal(journal_url)
    yield made
    made.close()


@pytest.fixture
def sqlite_journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(url_of(tmp_path))
    yield made
    made.close()
