"""The registry's rows in SQL: SQLite or PostgreSQL. Each call is one transaction; whoever changes something waits for whoever else does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, delete, func, insert, select, tuple_, update
from sqlalchemy.engine import Connection

from fabric import codec
from fabric.errors import RejectedError, UnknownNameError
from fabric.registry.names import LATEST, number_of
from fabric.registry.query import Page, Query
from fabric.registry.search import page_of, statement
from fabric.registry.signature import Signature
from fabric.registry.tables import aliases, changing, faults, labels, metrics, models, open_tables, reading, versions
from fabric.registry.version import By, ModelFile, ModelVersion, NewVersion, RegisteredModel, State, digest_of_files

_CHUNK = 200
"""Rows of one question: SQLite takes so many values in one statement."""


class SqlVersions:
    """See `VersionsPort`. For many threads; other processes may write beside it."""

    def __init__(self, url: str) -> None:
        with faults():
            self._engine = open_tables(url)

    def close(self) -> None:
        self._engine.dispose()

    # -- changes -------------------------------------------------------------------------------------------------------------

    def register(self, name: str, new: NewVersion, by: By, now_s: float) -> ModelVersion:
        """The next number of `name`, or the version that `new.key` stands for already."""
        with changing(self._engine) as connection:
            number = _number_of_key(connection, name, new.key)
            if number is None:
                number = _next_number(connection, name, by, now_s)
                _insert(connection, name, number, new, by.user, now_s)
            return _one(connection, name, number)

    def set_aliases(self, name: str, aliases_to: Mapping[str, int | None], by: By) -> RegisteredModel:
        """All or none. None takes an alias away; one that is not there is no mistake. Raises: UnknownNameError (`unknown_version`)."""
        with changing(self._engine) as connection:
            _check_owner(_model(connection, name), by)
            for number in {number for number in aliases_to.values() if number is not None}:
                _one(connection, name, number)
            connection.execute(delete(aliases).where(aliases.c.name == name, aliases.c.alias.in_(list(aliases_to))))
            rows = [{"name": name, "alias": alias, "number": number} for alias, number in aliases_to.items() if number is not None]
            if rows:
                connection.execute(insert(aliases), rows)
            return _model(connection, name)

    def mark(self, name: str, number: int, state: State, why: str, by: By) -> ModelVersion:
        with changing(self._engine) as connection:
            _check_owner(_model(connection, name), by)
            _one(connection, name, number)
            connection.execute(update(versions).where(*_is(versions, name, number)).values(state=state, why=why))
            return _one(connection, name, number)

    def set_metrics(self, name: str, number: int, new: Mapping[str, float | None], by: By) -> ModelVersion:
        """Those that are named; None takes one away."""
        with changing(self._engine) as connection:
            _check_owner(_model(connection, name), by)
            _one(connection, name, number)
            connection.execute(delete(metrics).where(*_is(metrics, name, number), metrics.c.metric.in_(list(new))))
            _insert_metrics(connection, name, number, new)
            return _one(connection, name, number)

    def learn_signature(self, name: str, number: int, signature: Signature) -> ModelVersion:
        """Keep the signature of a version that had none; one that has one keeps it."""
        with changing(self._engine) as connection:
            unknown = versions.c.signature.is_(None)
            connection.execute(update(versions).where(*_is(versions, name, number), unknown).values(signature=codec.dumps(signature)))
            return _one(connection, name, number)

    def delete(self, name: str, number: int, by: By) -> None:
        """Raises: RejectedError (`version_aliased`), UnknownNameError (`unknown_version`)."""
        with changing(self._engine) as connection:
            _check_owner(_model(connection, name), by)
            found = _one(connection, name, number)
            if found.aliases:
                raise RejectedError(
                    f"{found.ref} is {', '.join(found.aliases)}",
                    code="version_aliased",
                    hint=f"`fabric model alias {name} {found.aliases[0]}=` takes the alias away",
                    aliases=found.aliases,
                )
            for table in (labels, metrics, versions):
                connection.execute(delete(table).where(*_is(table, name, number)))

    # -- questions -----------------------------------------------------------------------------------------------------------

    def model(self, name: str) -> RegisteredModel:
        """Raises: UnknownNameError (`unknown_model`)."""
        with reading(self._engine) as connection:
            return _model(connection, name)

    def aliases_of(self, names: Sequence[str]) -> dict[str, dict[str, int]]:
        """The aliases of each model that is registered."""
        found: dict[str, dict[str, int]] = {}
        both = models.outerjoin(aliases, models.c.name == aliases.c.name)
        asked = select(models.c.name, aliases.c.alias, aliases.c.number).select_from(both)
        with reading(self._engine) as connection:
            for start in range(0, len(names), _CHUNK):
                for row in connection.execute(asked.where(models.c.name.in_(names[start : start + _CHUNK]))):
                    called = found.setdefault(row.name, {})
                    if row.alias is not None:
                        called[row.alias] = row.number
        return found

    def find(self, name: str, word: str = LATEST) -> ModelVersion:
        """A version by its number, an alias, or `latest`. Raises: UnknownNameError (`unknown_model`, `unknown_version`)."""
        with reading(self._engine) as connection:
            model = _model(connection, name)
            number = number_of(word)
            if word == LATEST:
                active = (versions.c.name == name, versions.c.state == "active")
                number = connection.execute(select(func.max(versions.c.number)).where(*active)).scalar()
            number = model.aliases.get(word) if number is None else number
            if number is None:
                raise _unknown_version(connection, name, word)
            return _one(connection, name, number)

    def discover(self, query: Query) -> Page:
        """One page. Raises: as `Query.check`, and UserError (`bad_cursor`)."""
        query.check()
        asked = statement(query)
        with reading(self._engine) as connection:
            rows = connection.execute(asked).all()
            return page_of(query, rows, _made(connection, rows[: query.limit]))


def _model(connection: Connection, name: str) -> RegisteredModel:
    row = connection.execute(select(models).where(models.c.name == name)).first()
    if row is None:
        known = connection.execute(select(models.c.name).order_by(models.c.name).limit(1000)).scalars()
        raise UnknownNameError.of("model", name, known)
    rows = connection.execute(select(aliases.c.alias, aliases.c.number).where(aliases.c.name == name).order_by(aliases.c.alias))
    return RegisteredModel(row.name, row.user, row.created_s, row.last_number, dict(tuple(row) for row in rows))


def _check_owner(model: RegisteredModel, by: By) -> None:
    if model.user != by.user and not by.may_operate:
        raise RejectedError(
            f"model {model.name} belongs to {model.user}",
            code="forbidden",
            hint="a token with the scope operate may change it",
            user=model.user,
        )


def _number_of_key(connection: Connection, name: str, key: str) -> int | None:
    if not key:
        return None
    number: int | None = connection.execute(select(versions.c.number).where(versions.c.name == name, versions.c.key == key)).scalar()
    return number


def _next_number(connection: Connection, name: str, by: By, now_s: float) -> int:
    if connection.execute(select(models.c.name).where(models.c.name == name)).first() is None:
        connection.execute(insert(models).values(name=name, user=by.user, created_s=now_s, last_number=1))
        return 1
    model = _model(connection, name)
    _check_owner(model, by)
    connection.execute(update(models).where(models.c.name == name).values(last_number=model.last_number + 1))
    return model.last_number + 1


def _insert(connection: Connection, name: str, number: int, new: NewVersion, user: str, now_s: float) -> None:
    size_bytes = sum(file.size_bytes for file in new.files)
    body = {"files": [codec.encode(file) for file in new.files], "main": new.main, "source": new.source, "settings": dict(new.settings)}
    connection.execute(
        insert(versions).values(
            name=name,
            number=number,
            key=new.key or None,
            framework=new.framework,
            user=user,
            created_s=now_s,
            size_bytes=size_bytes,
            state="active",
            why="",
            signature=None if new.signature is None else codec.dumps(new.signature),
            body=json.dumps(body),
            words=_words(name, new),
        )
    )
    if new.metadata:
        rows = [{"name": name, "number": number, "key": key, "value": value} for key, value in new.metadata.items()]
        connection.execute(insert(labels), rows)
    _insert_metrics(connection, name, number, new.metrics)


def _insert_metrics(connection: Connection, name: str, number: int, new: Mapping[str, float | None]) -> None:
    rows = [{"name": name, "number": number, "metric": metric, "value": value} for metric, value in new.items() if value is not None]
    if rows:
        connection.execute(insert(metrics), rows)


def _words(name: str, new: NewVersion) -> str:
    labels_said = (word for pair in new.metadata.items() for word in pair)
    return "\n".join((name, new.framework, new.source, *labels_said)).lower()


def _one(connection: Connection, name: str, number: int) -> ModelVersion:
    rows = connection.execute(select(versions).where(*_is(versions, name, number))).all()
    if not rows:
        raise _unknown_version(connection, name, str(number))
    return _made(connection, rows)[0]


def _unknown_version(connection: Connection, name: str, word: str) -> UnknownNameError:
    last = connection.execute(
        select(versions.c.number).where(versions.c.name == name).order_by(versions.c.number.desc()).limit(20)
    ).scalars()
    known = [*map(str, last), *connection.execute(select(aliases.c.alias).where(aliases.c.name == name)).scalars()]
    hint = f"{name} has {', '.join(known) or 'none'}; `fabric model versions {name}` lists them"
    return UnknownNameError(f"{name} has no version {word!r}", code="unknown_version", hint=hint, name=name, version=word)


def _made(connection: Connection, rows: Sequence[Any]) -> list[ModelVersion]:
    """The versions of rows, in their order, with what other tables say of them."""
    keys = [(row.name, row.number) for row in rows]
    said: dict[tuple[str, int], dict[str, str]] = {key: {} for key in keys}
    measured: dict[tuple[str, int], dict[str, float]] = {key: {} for key in keys}
    called: dict[tuple[str, int], list[str]] = {key: [] for key in keys}
    for row in _about(connection, select(labels).order_by(labels.c.key), labels, keys):
        said[row.name, row.number][row.key] = row.value
    for row in _about(connection, select(metrics).order_by(metrics.c.metric), metrics, keys):
        measured[row.name, row.number][row.metric] = row.value
    for row in _about(connection, select(aliases).order_by(aliases.c.alias), aliases, keys):
        called[row.name, row.number].append(row.alias)
    return [_version(row, said[row.name, row.number], measured[row.name, row.number], called[row.name, row.number]) for row in rows]


def _about(connection: Connection, asked: Select[Any], table: Any, keys: Sequence[tuple[str, int]]) -> Iterable[Any]:
    for start in range(0, len(keys), _CHUNK):
        among = tuple_(table.c.name, table.c.number).in_(keys[start : start + _CHUNK])
        yield from connection.execute(asked.where(among))


def _version(row: Any, said: Mapping[str, str], measured: Mapping[str, float], called: Sequence[str]) -> ModelVersion:
    body = json.loads(row.body)
    files = tuple(codec.decode(ModelFile, file) for file in body["files"])
    return ModelVersion(
        name=row.name,
        number=row.number,
        digest=digest_of_files(files),
        size_bytes=row.size_bytes,
        framework=row.framework,
        files=files,
        main=body["main"],
        user=row.user,
        created_s=row.created_s,
        signature=None if row.signature is None else codec.decode(Signature, json.loads(row.signature)),
        source=body["source"],
        metadata=said,
        metrics=measured,
        settings=body["settings"],
        state=row.state,
        why=row.why,
        aliases=tuple(called),
    )


def _is(table: Any, name: str, number: int) -> tuple[Any, Any]:
    return table.c.name == name, table.c.number == number
