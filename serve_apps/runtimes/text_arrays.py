"""Carries text between the protocol's form (object arrays of `bytes`, UTF-8) and Python's (object arrays of `str`)."""

from __future__ import annotations

from typing import Any

import numpy

from serve_apps.tensors import Array


def encoded(array: Array) -> Array:
    """Each `str` as the bytes of its UTF-8; anything else as it is."""
    return numpy.fromiter((item.encode() if isinstance(item, str) else item for item in array.flat), object, array.size).reshape(
        array.shape
    )


def decoded(array: Array) -> Array:
    """Each `bytes` as text where it is UTF-8; anything else as it is."""
    return numpy.fromiter(map(_text, array.flat), object, array.size).reshape(array.shape)


def _text(item: Any) -> Any:
    if not isinstance(item, bytes):
        return item
    try:
        return item.decode()
    except UnicodeDecodeError:
        return item
