"""Puts what `predict` returns into JSON's own types, for outputs that hold JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from fabric.errors import ModelError


def to_json(value: Any) -> Any:
    """`value` in JSON's own types: arrays become lists, and NaN and the infinities, which JSON lacks, null.

    Raises: `ModelError` (`result_not_json`) for anything else.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's arrays and scalars, torch's tensors
        return to_json(value.tolist())
    if hasattr(value, "model_dump"):  # pydantic's models
        return to_json(value.model_dump())
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    raise ModelError(f"predict returned {type(value).__name__}, which has no form in JSON", code="result_not_json")
