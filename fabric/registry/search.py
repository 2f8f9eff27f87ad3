"""A query as SQL, and its rows as a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, and_, exists, or_, select

from fabric.registry.query import ANY_STATE, Page, Place, Query, read_cursor, write_cursor
from fabric.registry.tables import aliases, labels, metrics, versions
from fabric.registry.version import ModelVersion

_COLUMNS = {"created": versions.c.created_s, "name": versions.c.name, "size": versions.c.size_bytes}


def statement(query: Query) -> Select[Any]:
    """One row more than the page has, so that it is seen whether there is another. Raises: UserError (`bad_cursor`)."""
    order = query.order
    value = metrics.c.value if order.metric else _COLUMNS[order.by]
    asked = select(versions, value.label("place"))
    if order.metric:
        of_it = and_(metrics.c.name == versions.c.name, metrics.c.number == versions.c.number, metrics.c.metric == order.metric)
        asked = asked.join(metrics, of_it)
    asked = asked.where(*_conditions(query))
    if query.cursor:
        asked = asked.where(_behind(value, read_cursor(query.sort, query.cursor), order.is_descending))
    direction = value.desc() if order.is_descending else value.asc()
    return asked.order_by(direction, versions.c.name, versions.c.number.desc()).limit(query.limit + 1)


def page_of(query: Query, rows: Sequence[Any], made: Sequence[ModelVersion]) -> Page:
    if len(rows) <= query.limit:
        return Page(tuple(made), None)
    last = rows[query.limit - 1]
    return Page(tuple(made), write_cursor(query.sort, Place(last.place, last.name, last.number)))


def _behind(value: Any, place: Place, is_descending: bool) -> Any:
    beyond = value < place.value if is_descending else value > place.value
    later_name = versions.c.name > place.name
    older = and_(versions.c.name == place.name, versions.c.number < place.number)
    return or_(beyond, and_(value == place.value, or_(later_name, older)))


def _conditions(query: Query) -> list[Any]:
    found: list[Any] = []
    equal = ((versions.c.name, query.name), (versions.c.framework, query.framework), (versions.c.user, query.user))
    found += [column == value for column, value in equal if value]
    if query.state != ANY_STATE:
        found.append(versions.c.state == query.state)
    found += [versions.c.words.contains(word, autoescape=True) for word in query.text.lower().split()]
    for key, value in query.metadata.items():
        found.append(exists().where(*_of(labels), labels.c.key == key, labels.c.value == value))
    if query.alias:
        found.append(exists().where(*_of(aliases), aliases.c.alias == query.alias))
    return found


def _of(table: Any) -> tuple[Any, Any]:
    return table.c.name == versions.c.name, table.c.number == versions.c.number
