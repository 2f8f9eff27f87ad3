"""Ends a cluster on machines that one owns: the head first, so that nothing is started again, then all others at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from fabric.cluster.file import ClusterFile
from fabric.cluster.look import MOST_AT_ONCE
from fabric.cluster.progress import Progress
from fabric.errors import FabricError
from fabric.machines import bring_up, local
from fabric.machines.ssh import Remote


def end(file: ClusterFile, write: Callable[[str], None]) -> dict[str, FabricError]:
    """The machines that could not be told, and why. What the fabric keeps on the head (its journal) stays.

    Raises: RejectedError (`launch_running`).
    """
    cluster = file.cluster
    assert cluster is not None
    machines = cluster.all_machines()
    progress = Progress(machines, write)
    failed: dict[str, FabricError] = {}

    def one(host: str) -> None:
        try:
            answer = bring_up.stop(Remote(host, cluster.access), cluster.environment, cluster.name, is_final=True)
        except FabricError as error:
            if error.code == "agent_failed":  # nothing of ours was ever installed there
                progress.line(host, "nothing runs")
                return
            failed[host] = error
            progress.failed(host, error)
            return
        progress.done(host, "ended" if answer["was_running"] else "nothing ran")

    with local.launching(file.name):
        one(cluster.head)
        rest = [host for host in machines if host != cluster.head]
        if rest:
            with ThreadPoolExecutor(max_workers=min(len(rest), MOST_AT_ONCE), thread_name_prefix="down") as pool:
                list(pool.map(one, rest))
    return failed
