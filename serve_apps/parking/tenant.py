"""What the owner of a lot holds of one process: its channel, its address, and the model that it serves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

from serve_apps.directory.records import ReplicaReport
from serve_apps.directory.table import ReplicaAt
from serve_apps.parking.link import Channel
from serve_apps.parking.messages import Adoption, Message
from serve_apps.parking.rules import ModelVersion


@dataclass(slots=True)
class Tenant:
    """`address.port` is 0 until it is parked; `model` None until it adopts one; `is_live` while requests may be sent to it."""

    address: ReplicaAt
    channel: Channel | None = None
    model: ModelVersion | None = None
    is_live: bool = False
    report: ReplicaReport | None = None
    listening: asyncio.Task[None] | None = None

    @property
    def is_parked(self) -> bool:
        return self.address.port > 0 and self.model is None

    def park(self, port: int) -> None:
        self.address = replace(self.address, port=port)

    def adopt(self, adoption: Adoption) -> None:
        self.model = adoption.model
        self.send(replace(adoption, replica_id=self.address.id, node_id=self.address.node_id))

    def send(self, message: Message) -> None:
        """Nothing happens where it has ended: its end is told of elsewhere."""
        if self.channel is not None:
            self.channel.send(message)

    def close(self) -> None:
        if self.listening is not None:
            self.listening.cancel()
        if self.channel is not None:
            self.channel.close()


def pss_bytes(pid: int) -> int:
    """A process's proportional set size: its private pages, and its part of those that it shares. Raises: OSError."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
