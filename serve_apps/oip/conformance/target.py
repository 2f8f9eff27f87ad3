"""What the kit knows of the server under test: its extensions, its models with their signatures, and how to reach it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from serve_apps.oip.conformance.check import Skipped
from serve_apps.oip.conformance.rest import Rest
from serve_apps.oip.conformance.rpc import Rpc
from serve_apps.oip.conformance.values import IN_JSON, Array, edges, filled, plain


@dataclass(frozen=True, slots=True)
class Signature:
    """One input or output as the model's metadata have it; a dimension of -1 is free."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def sample(self, size: int, *, at_edges: bool) -> Array:
        shape = tuple(size if each < 0 else each for each in self.shape)
        return filled(self.datatype, shape, edges(self.datatype) if at_edges else plain(self.datatype))


@dataclass(slots=True)
class Model:
    """`is_identity`: output i has the values of input i. `refusal`: why it is set aside, empty for a model that answers."""

    name: str
    versions: tuple[str, ...]
    inputs: tuple[Signature, ...]
    outputs: tuple[Signature, ...]
    is_identity: bool = False
    refusal: str = ""

    @property
    def path(self) -> str:
        return f"/v2/models/{self.name}"

    @property
    def is_json(self) -> bool:
        """Whether all its tensors can go as JSON."""
        return all(each.datatype in IN_JSON for each in (*self.inputs, *self.outputs))

    def samples(self, size: int) -> dict[str, Array]:
        """Fitting inputs by name; the edges of the datatype where the model gives back what it gets."""
        return {each.name: each.sample(size, at_edges=self.is_identity) for each in self.inputs}


@dataclass(slots=True)
class Target:
    """`size`: what a free dimension is sent with. `forced`: extensions to judge though they are not advertised."""

    rest: Rest
    rpc: Rpc | None = None
    size: int = 2
    forced: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    models: dict[str, Model] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """Whether an extension is judged. Nobody advertises `generate`: its checks look for a model."""
        return name in self.extensions or name in self.forced or name == "generate"

    def grpc(self) -> Rpc:
        if self.rpc is None:
            raise Skipped("no gRPC address was given (--grpc HOST:PORT)")
        return self.rpc

    def any_model(self) -> Model:
        """The model for checks that need just one: one that answers JSON, an identity if there is one. Raises: `Skipped`."""
        ready = [model for model in self.models.values() if not model.refusal and model.is_json]
        if not ready:
            raise Skipped("no model of this server answers a plain request; name one with --model")
        return max(ready, key=lambda model: (model.is_identity, any(each.datatype == "FP32" for each in model.inputs)))

    def model_of(self, datatype: str) -> Model:
        """A model with an input of this datatype. Raises: `Skipped` where there is none."""
        able = [model for model in self.models.values() if not model.refusal and any(each.datatype == datatype for each in model.inputs)]
        if not able:
            raise Skipped(f"no model here takes {datatype}")
        return max(able, key=lambda model: (model.is_identity, -len(model.inputs)))

    def model_where(self, what: str, holds: Any) -> Model:
        """Raises: `Skipped` where no answering model is one."""
        for model in self.models.values():
            if not model.refusal and holds(model):
                return model
        raise Skipped(f"no model here {what}")

    def forget(self) -> None:
        self.rest.log.clear()
        if self.rpc is not None:
            self.rpc.log.clear()

    def evidence(self) -> str:
        """The last exchanges of the running check."""
        return "\n".join([*self.rest.log, *(self.rpc.log if self.rpc is not None else ())][-4:])

    def close(self) -> None:
        self.rest.close()
        if self.rpc is not None:
            self.rpc.close()
