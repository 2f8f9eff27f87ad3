"""Tokens: hashed at rest, scoped, bound to a user and queues, revocable; and the token file of a laptop."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabric.api.tokens import SCOPES, STREAM, Principal, Tokens, ensure_token_file, read_token_file
from fabric.errors import ConfigError, RejectedError, RuntimeFault, UnknownNameError, UserError
from fabric.journal import Journal


@pytest.fixture
def documents(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(f"sqlite:///{tmp_path / 'documents.db'}")
    yield made
    made.close()


def test_a_token_opens_what_its_scopes_say_and_what_they_imply(documents: Journal) -> None:
    tokens = Tokens(documents)
    granted = {scope: tokens.principal(tokens.mint("ann", [scope])[0]).scopes for scope in SCOPES}
    assert granted == {
        "infer": {"infer"},
        "submit": {"submit", "infer"},
        "read": {"read"},
        "operate": {"operate", "read"},
        "admin": {"infer", "submit", "read", "operate", "admin"},
    }


def test_a_token_names_its_user_and_its_queues(documents: Journal) -> None:
    tokens = Tokens(documents)
    who = tokens.principal(tokens.mint("ann", ["submit"], queues=["research"])[0])
    assert (who.user, who.reaches("research"), who.reaches("production")) == ("ann", True, False)
    assert tokens.principal(tokens.mint("bob", ["submit"])[0]).reaches("anything")


def test_the_secret_is_kept_nowhere_and_shown_in_no_listing(documents: Journal) -> None:
    tokens = Tokens(documents)
    token, record = tokens.mint("ann", ["admin"])
    secret = token.split("_", 2)[2]
    everywhere = json.dumps(documents.load(STREAM)) + repr(tokens.listed()) + json.dumps(record.as_json())
    assert len(secret) == 43 and secret not in everywhere
    assert record.sha256 not in json.dumps(record.as_json())


def test_tokens_are_still_good_after_a_restart_with_the_journal_behind_them(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    journal = Journal(url)
    token, _ = Tokens(journal).mint("ann", ["submit"], queues=["research"])
    gone, record = Tokens(journal).mint("bob", ["submit"])
    Tokens(journal).revoke(record.id)
    journal.close()
    again = Tokens(Journal(url))
    assert (again.principal(token).user, again.principal(token).queues) == ("ann", {"research"})
    with pytest.raises(UserError, match="revoked"):
        again.principal(gone)
    assert token.split("_", 2)[2].encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


@pytest.mark.parametrize(
    "damage", [lambda t: t[:-1], lambda t: t[:-1] + ("A" if t[-1] != "A" else "B"), lambda t: "x" + t, lambda _: "", lambda _: "tf__"]
)
def test_what_is_not_a_token_opens_nothing(documents: Journal, damage: object) -> None:
    tokens = Tokens(documents)
    token, _ = tokens.mint("ann", ["admin"])
    with pytest.raises(UserError) as refused:
        tokens.principal(damage(token))  # type: ignore[operator]
    assert refused.value.code == "unauthorized"


def test_a_revoked_token_opens_nothing_now_and_after_a_restart(documents: Journal) -> None:
    tokens = Tokens(documents)
    token, record = tokens.mint("ann", ["admin"])
    tokens.principal(token)
    tokens.revoke(record.id)
    for known in (tokens, Tokens(documents)):
        with pytest.raises(UserError, match="revoked"):
            known.principal(token)
    assert tokens.revoke(record.id).revoked_s == tokens.listed()[0].revoked_s
    with pytest.raises(UnknownNameError, match="unknown token"):
        tokens.revoke("nope")


def test_a_use_that_is_noted_late_does_not_bring_a_revoked_token_back(documents: Journal) -> None:
    now_s = [1000.0]
    tokens = Tokens(documents, lambda: now_s[0])
    token, record = tokens.mint("ann", ["admin"])
    tokens.revoke(record.id)
    now_s[0] += 10_000
    tokens.note_use(record.id)
    with pytest.raises(UserError):
        tokens.principal(token)
    assert documents.load(STREAM)[record.id]["revoked_s"] == 1000.0


def test_a_token_expires(documents: Journal) -> None:
    now_s = [1000.0]
    tokens = Tokens(documents, lambda: now_s[0])
    token, _ = tokens.mint("ann", ["submit"], expires_in_s=60.0)
    now_s[0] = 1059.0
    assert tokens.principal(token).user == "ann"
    now_s[0] = 1060.0
    with pytest.raises(UserError, match="expired"):
        tokens.principal(token)


def test_the_last_use_is_kept_but_not_written_for_every_request(documents: Journal) -> None:
    now_s = [1000.0]
    tokens = Tokens(documents, lambda: now_s[0])
    _, record = tokens.mint("ann", ["submit"])
    for second in range(290):
        now_s[0] = 1000.0 + second
        assert tokens.is_use_due(record.id) is (second == 0)
        tokens.note_use(record.id)
    assert documents.load(STREAM)[record.id]["last_used_s"] == 1000.0
    now_s[0] = 2000.0
    tokens.note_use(record.id)
    assert Tokens(documents).listed()[0].last_used_s == 2000.0


def test_a_full_disk_locks_nobody_out(documents: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(documents)
    token, record = tokens.mint("ann", ["submit"])

    def full(*_: object) -> None:
        raise RuntimeFault("disk full", code="journal")

    monkeypatch.setattr(documents, "save", full)
    tokens.note_use(record.id)
    assert tokens.principal(token).user == "ann"
    with pytest.raises(RuntimeFault):
        tokens.mint("bob", ["submit"])
    assert [record.user for record in tokens.listed()] == ["ann"]


def test_an_unknown_scope_is_refused_with_the_nearest(documents: Journal) -> None:
    with pytest.raises(UnknownNameError) as refused:
        Tokens(documents).mint("ann", ["sumbit"])
    assert (refused.value.code, refused.value.hint) == ("unknown_scope", "did you mean submit?")


def test_a_missing_scope_is_refused_by_name() -> None:
    with pytest.raises(RejectedError) as refused:
        Principal("ann", frozenset({"submit"})).must("admin")
    assert refused.value.code == "forbidden" and "admin" in (refused.value.hint or "")


# -- the token file --------------------------------------------------------------------------------------------------------


def test_the_token_file_is_for_its_owner_alone_and_opens_everything(documents: Journal, tmp_path: Path) -> None:
    tokens, file = Tokens(documents), tmp_path / "state" / "token"
    ensure_token_file(file, tokens, "ann")
    assert file.stat().st_mode & 0o777 == 0o600
    assert tokens.principal(read_token_file(file)).scopes == set(SCOPES)
    assert sorted(path.name for path in file.parent.iterdir()) == ["token"]


def test_a_good_token_file_is_kept_and_another_fabrics_is_replaced(documents: Journal, tmp_path: Path) -> None:
    tokens, file = Tokens(documents), tmp_path / "token"
    ensure_token_file(file, tokens, "ann")
    first = file.read_text()
    ensure_token_file(file, Tokens(documents), "ann")
    assert file.read_text() == first and len(tokens.listed()) == 1
    other = Tokens(Journal(f"sqlite:///{tmp_path / 'other.db'}"))
    ensure_token_file(file, other, "ann")
    assert file.read_text() != first and other.principal(read_token_file(file)).user == "ann"


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604, 0o700 | 0o010])
def test_a_token_file_that_others_can_read_is_not_used(documents: Journal, tmp_path: Path, mode: int) -> None:
    file = tmp_path / "token"
    ensure_token_file(file, Tokens(documents), "ann")
    os.chmod(file, mode)  # noqa: PTH101
    with pytest.raises(ConfigError) as refused:
        read_token_file(file)
    assert refused.value.code == "token_file_open" and f"chmod 600 {file}" in (refused.value.hint or "")
    assert file.read_text().strip() not in refused.value.render()


def test_a_missing_token_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        read_token_file(tmp_path / "token")
    assert refused.value.code == "token_not_found" and "FABRIC_TOKEN" in (refused.value.hint or "")
