"""What a model takes and gives, and whether another can take its place: pure.

A candidate can take a champion's place where whoever calls the champion can call it unchanged, and reads its answers unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

from fabric.errors import RejectedError
from fabric.tensor_spec import TensorSpec


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs, each in the model's order. A dimension of -1 is any size."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()

    def __str__(self) -> str:
        return f"{_listed(self.inputs)} -> {_listed(self.outputs)}"


def differences(champion: Signature | None, candidate: Signature | None) -> list[str]:
    """Why a candidate cannot take the champion's place, a sentence each; empty: it can, or one of the two is not known."""
    if champion is None or candidate is None:
        return []
    old_inputs, new_inputs = _by_name(champion.inputs), _by_name(candidate.inputs)
    found = [f"input {name!r} is missing" for name in old_inputs if name not in new_inputs]
    found += [f"input {name!r} is new, and must be given" for name, spec in new_inputs.items() if _is_demanded(spec, name in old_inputs)]
    for name, old in old_inputs.items():
        if name in new_inputs:
            found += _changes("input", old, new_inputs[name])
            if old.is_optional and not new_inputs[name].is_optional:
                found.append(f"input {name!r} may no longer be left out")
    old_outputs, new_outputs = _by_name(champion.outputs), _by_name(candidate.outputs)
    found += [f"output {name!r} is missing" for name in old_outputs if name not in new_outputs]
    for name, old in old_outputs.items():
        if name in new_outputs:
            found += _changes("output", old, new_outputs[name])
    return found


def check_same(
    champion: Signature | None, candidate: Signature | None, *, names: tuple[str, str] = ("the champion", "the version")
) -> None:
    """Raises: RejectedError (`signature_differs`) with every difference. `names`: what both are called in it."""
    found = differences(champion, candidate)
    if found:
        raise RejectedError(
            f"{names[1]} cannot take the place of {names[0]}: {'; '.join(found)}",
            code="signature_differs",
            hint="--allow-signature-change goes on, where all who call it have changed, too",
            differences=tuple(found),
        )


def _is_demanded(spec: TensorSpec, is_known: bool) -> bool:
    return not is_known and not spec.is_optional


def _changes(side: str, old: TensorSpec, new: TensorSpec) -> list[str]:
    found = []
    if old.datatype != new.datatype:
        found.append(f"{side} {old.name!r} changed its datatype from {old.datatype} to {new.datatype}")
    if len(old.shape) != len(new.shape):
        return [*found, f"{side} {old.name!r} had {len(old.shape)} dimensions and has {len(new.shape)}"]
    for axis, (before, after) in enumerate(zip(old.shape, new.shape, strict=True)):
        # An input that takes any size takes the one that was given so far; an output of any size promised none.
        free = after if side == "input" else before
        if before != after and free >= 0:
            found.append(f"dimension {axis} of {side} {old.name!r} was {_size(before)} and is {_size(after)}")
    return found


def _by_name(specs: tuple[TensorSpec, ...]) -> dict[str, TensorSpec]:
    return {spec.name: spec for spec in specs}


def _size(size: int) -> str:
    return "any" if size < 0 else str(size)


def _listed(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(map(str, specs)) or "-"
