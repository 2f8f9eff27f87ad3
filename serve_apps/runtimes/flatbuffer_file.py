"""Whether a file is a TensorFlow Lite model."""

from __future__ import annotations

from pathlib import Path


def is_tflite(path: Path) -> bool:
    """Source: schema.fbs of TensorFlow Lite, `file_identifier "TFL3"`; a flatbuffer has it in bytes 4 to 8."""
    if not path.is_file():
        return False
    with path.open("rb") as opened:
        return opened.read(8)[4:] == b"TFL3"
