"""The directory's actor as replicas and ingresses reach it, and where a replica is. Carries; decides nothing."""

from __future__ import annotations

from collections.abc import Sequence

import ray
from ray import serve

from fabric import ray_io
from fabric.model_runs import ModelRuns
from serve_apps.directory.records import DeployRecord, ReplicaReport
from serve_apps.directory.requests import ACTOR, BeatAnswer
from serve_apps.directory.table import ReplicaId, ServingTable
from serve_apps.gateway.feedback import FeedbackRow
from serve_apps.replica_settings import ReplicaSettings


class RayDirectory:
    """The directory's actor, from a replica. Raises: UnavailableError."""

    def beat(self, report: ReplicaReport, tokens_mark: str) -> BeatAnswer:
        answer: BeatAnswer = ray_io.ask(ray_io.actor(ACTOR).beat.remote(report, tokens_mark))
        return answer

    def leave(self, replica_id: ReplicaId) -> None:
        ray_io.ask(ray_io.actor(ACTOR).leave.remote(replica_id))

    def table_after(self, seq: int, timeout_s: float) -> ServingTable:
        table: ServingTable = ray_io.ask(ray_io.actor(ACTOR).table_after.remote(seq, timeout_s))
        return table

    def tokens_after(self, mark: str) -> BeatAnswer:
        answer: BeatAnswer = ray_io.ask(ray_io.actor(ACTOR).tokens_after.remote(mark))
        return answer

    def feedback(self, rows: Sequence[FeedbackRow]) -> None:
        """What users posted back, summed."""
        ray_io.ask(ray_io.actor(ACTOR).feedback.remote([tuple(row) for row in rows]))

    def deployment(self, name: str, key: str) -> DeployRecord:
        record: DeployRecord = ray_io.ask(ray_io.actor(ACTOR).deployment.remote(name, key))
        return record


def replica_place() -> tuple[str, str, str]:
    """(Serve's id of this replica, this node's id, this node's address)."""
    context = serve.get_replica_context()
    return str(context.replica_id.unique_id), str(ray.get_runtime_context().get_node_id()), ray.util.get_node_ip_address()


def open_runs(settings: ReplicaSettings) -> ModelRuns:
    """Where this replica reports its runs."""
    return ModelRuns(settings.name, settings.kind, user=settings.user)
