"""How ours is started for a benchmark: a twin of one's own, one replica of the echo or of an ONNX file, REST and gRPC on given ports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from peers.recipe import Command, Place

_APP = Path(__file__).with_name("peers") / "apps" / "ours_app.py"


@dataclass(frozen=True, slots=True)
class Ours:
    """`onnx`: the file to serve under the name `echo` instead of the echo itself."""

    onnx: Path | None = None
    name: str = "ours"
    requirements: tuple[str, ...] = ()

    def command(self, place: Place) -> Command:
        env = {"FABRIC_STATE_DIR": str(place.workdir / "state"), "FABRIC_DASHBOARD__ENABLED": "false"}
        argv = (str(place.python), str(_APP), str(place.http_port), str(place.grpc_port), *([str(self.onnx)] if self.onnx else []))
        path = "/v2/models/echo"
        return Command(argv, f"{path}/infer", env=env, ready_path=f"{path}/ready", with_grpc=True)
