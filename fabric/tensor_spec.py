"""One input or output of a model as it is declared: what serving and the registry both speak of. Needs no numpy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output as a model declares it. A dimension is a size, or -1 for any."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    is_optional: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.datatype}[{', '.join('?' if size < 0 else str(size) for size in self.shape)}]"

    def takes(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == len(self.shape) and all(size in (-1, given) for size, given in zip(self.shape, shape, strict=True))
