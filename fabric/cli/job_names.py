"""The same asked of many jobs that a command line names, and of all of an array by its id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from fabric.errors import FabricError

if TYPE_CHECKING:
    from fabric.api_client import ApiClient


def post_each(api: ApiClient, names: Sequence[str], page: str, body: Any = None) -> tuple[list[dict[str, Any]], FabricError | None]:
    """The answers, and the last refusal, to be raised once they are shown: the other jobs are asked all the same, and refusals before
    it are told here. Raises: UnavailableError."""
    from fabric.api_client import job_path

    done: list[dict[str, Any]] = []
    refused: FabricError | None = None
    for name in names:
        try:
            done += [api.post(job_path(each, page), body) for each in _members(api, name) or [name]]
        except FabricError as error:
            if error.exit_status == 4:
                raise
            if refused is not None:
                click.echo(refused.render(), err=True)
            refused = error
    return done, refused


def _members(api: ApiClient, name: str) -> list[str]:
    """The jobs of the array of that id; none where it is no array's."""
    from fabric.job_ids import is_job_id

    found = api.get("/v1/jobs", {"array": name, "limit": 10_000})["jobs"] if is_job_id(name) else []
    return [job["id"] for job in found]
