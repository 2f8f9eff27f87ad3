"""The API's own tokens: who may do what. Ray's token is another thing and never comes here.

A token is `tf_<id>_<secret>` with a secret of 256 random bits, of which only the sha256 is kept, in the journal's documents. Invariants:
a token that was revoked or has expired opens nothing; the secret is told once and logged nowhere; a token file that others
could read is not used.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from fabric.errors import ConfigError, FabricError, RejectedError, UnknownNameError, UserError

SCOPES = ("infer", "submit", "read", "operate", "admin")
IMPLIED = {
    "infer": frozenset({"infer"}),
    "submit": frozenset({"submit", "infer"}),
    "read": frozenset({"read"}),
    "operate": frozenset({"operate", "read"}),
    "admin": frozenset(SCOPES),
}
STREAM = "api-tokens"
PREFIX = "tf"
NOTE_USE_EVERY_S = 300.0
_TOKEN = re.compile(r"tf_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class DocumentsPort(Protocol):
    """What tokens need of the journal."""

    def load(self, stream: str) -> dict[str, Any]: ...

    def save(self, stream: str, new: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `queues` empty: any queue. `scopes` holds what is implied, too."""

    user: str
    scopes: frozenset[str]
    queues: frozenset[str] = frozenset()
    token_id: str = ""

    def must(self, scope: str) -> None:
        """Raises: RejectedError (`forbidden`)."""
        if scope not in self.scopes:
            hint = f"ask an admin for a token with the scope {scope}"
            raise RejectedError(f"this token of {self.user} may not {_VERBS[scope]}", code="forbidden", hint=hint, scope=scope)

    def reaches(self, queue: str) -> bool:
        return not self.queues or queue in self.queues


_VERBS = {
    "infer": "ask models",
    "submit": "submit jobs",
    "read": "see the jobs of others",
    "operate": "act on the jobs of others",
    "admin": "change the policy or tokens",
}


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token as it is kept."""

    id: str
    sha256: str
    user: str
    scopes: tuple[str, ...]
    queues: tuple[str, ...] = ()
    note: str = ""
    created_s: float = 0.0
    created_by: str = ""
    expires_s: float | None = None
    revoked_s: float | None = None
    last_used_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        """What is shown of it: all but the hash."""
        shown = asdict(self)
        del shown["sha256"]
        return {**shown, "scopes": list(self.scopes), "queues": list(self.queues)}


class Tokens:
    """All tokens of a fabric, over the journal's documents. For many threads. `now_s` is the wall clock."""

    def __init__(self, documents: DocumentsPort, now_s: Callable[[], float] = time.time) -> None:
        self._documents = documents
        self._now_s = now_s
        self._lock = threading.Lock()
        self._records = {name: _record(body) for name, body in documents.load(STREAM).items()}
        self._noted_s: dict[str, float] = {}

    def mint(
        self,
        user: str,
        scopes: Sequence[str],
        *,
        queues: Iterable[str] = (),
        expires_in_s: float | None = None,
        note: str = "",
        by: str = "fabric",
    ) -> tuple[str, TokenRecord]:
        """A new token, told here and never again. Raises: UnknownNameError (`unknown_scope`), RuntimeFault (`journal`)."""
        for scope in scopes:
            if scope not in SCOPES:
                raise UnknownNameError.of("scope", scope, SCOPES)
        now_s, token_id, secret = self._now_s(), uuid.uuid4().hex[:12], secrets.token_urlsafe(32)
        expires_s = None if expires_in_s is None else now_s + expires_in_s
        record = TokenRecord(token_id, _hashed(secret), user, tuple(scopes), tuple(queues), note, now_s, by, expires_s)
        with self._lock:
            self._keep(record)
        return f"{PREFIX}_{token_id}_{secret}", record

    def principal(self, token: str) -> Principal:
        """Whose token it is. Raises: UserError (`unauthorized`); why it opens nothing only its holder learns."""
        match = _TOKEN.fullmatch(token)
        record = self._records.get(match[1]) if match else None
        if match is None or record is None or not hmac.compare_digest(record.sha256, _hashed(match[2])):
            raise _unauthorized("no such token")
        now_s = self._now_s()
        if record.revoked_s is not None:
            raise _unauthorized("this token was revoked")
        if record.expires_s is not None and now_s >= record.expires_s:
            raise _unauthorized("this token has expired")
        granted = frozenset().union(*(IMPLIED[scope] for scope in record.scopes))
        return Principal(record.user, granted, frozenset(record.queues), record.id)

    def revoke(self, token_id: str) -> TokenRecord:
        """Again, it changes nothing. Raises: UnknownNameError (`unknown_token`)."""
        with self._lock:
            record = self._records.get(token_id)
            if record is None:
                raise UnknownNameError(f"unknown token {token_id!r}", code="unknown_token", hint="`fabric token list` shows their ids")
            if record.revoked_s is None:
                record = replace(record, revoked_s=self._now_s())
                self._keep(record)
        return record

    def listed(self) -> list[TokenRecord]:
        """Newest first."""
        with self._lock:
            return sorted(self._records.values(), key=lambda record: -record.created_s)

    def _keep(self, record: TokenRecord) -> None:
        """Held by the lock: an older state of a token must not be written over a newer one."""
        self._documents.save(STREAM, {record.id: asdict(record)})
        self._records[record.id] = record

    def is_use_due(self, token_id: str) -> bool:
        """Whether its use should be noted: it was not for some minutes. In memory, at once."""
        return self._now_s() - self._noted_s.get(token_id, 0.0) >= NOTE_USE_EVERY_S

    def note_use(self, token_id: str) -> None:
        """Keep when it was used last, for people to see. A disk that is full locks nobody out."""
        with self._lock:
            if self.is_use_due(token_id):
                self._noted_s[token_id] = self._now_s()
                with contextlib.suppress(FabricError):
                    self._keep(replace(self._records[token_id], last_used_s=self._noted_s[token_id]))


# -- the token file of a laptop --------------------------------------------------------------------------------------------


def ensure_token_file(file: Path, tokens: Tokens, user: str) -> None:
    """A token for everything, of the user whose fabric it is, in a file that only they can read; kept while it is good.

    Raises: RuntimeFault (`journal`), OSError.
    """
    with contextlib.suppress(FabricError):
        if tokens.principal(read_token_file(file)).user == user:
            return
    token, _ = tokens.mint(user, ("admin",), note=f"token file {file}")
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as out:
            out.write(token + "\n")
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)


def read_token_file(file: Path) -> str:
    """Raises: ConfigError (`token_not_found`, `token_file_open`: others could read it)."""
    try:
        with file.open(encoding="ascii") as opened:
            mode = os.fstat(opened.fileno()).st_mode & 0o777
            text = opened.read(1024).strip()
    except (OSError, UnicodeDecodeError) as error:
        hint = "start the fabric with `fabric up`, or set FABRIC_TOKEN"
        raise ConfigError(f"cannot read the token file {file}", code="token_not_found", hint=hint) from error
    if mode & 0o077:
        hint = f"chmod 600 {file}, and if others may have read it, delete it and start the fabric anew"
        raise ConfigError(f"the token file {file} is open to others (mode {mode:04o})", code="token_file_open", hint=hint)
    return text


def _unauthorized(why: str) -> UserError:
    return UserError(why, code="unauthorized", hint="set FABRIC_TOKEN to a token that an admin made with `fabric token create`")


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _record(body: Mapping[str, Any]) -> TokenRecord:
    known = {key: value for key, value in body.items() if key in TokenRecord.__slots__}
    return TokenRecord(**{**known, "scopes": tuple(body["scopes"]), "queues": tuple(body.get("queues", ()))})
