"""Reads the dtypes and shapes of the inputs that a TorchScript file was traced with; nothing in the file is run.

torch writes them (`traced_inputs.pkl`) and does not read them again. The pickle is read with stand-ins for the few names in it.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

_DTYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}

Traced = tuple[str, tuple[int, ...]]
"""(torch's name of the dtype, shape)."""


def traced_inputs(path: Path) -> list[Traced] | None:
    """One entry for each argument of `forward`, or None where the file was scripted or was traced on other things than tensors."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.partition("/")[2] == "traced_inputs.pkl"]
            if not names:
                return None
            with archive.open(names[0]) as opened:
                found = _Reader(opened).load()
        given = found["forward"]
    except (zipfile.BadZipFile, OSError, pickle.UnpicklingError, EOFError, KeyError, TypeError, IndexError, AttributeError):
        return None
    return given if given and all(isinstance(item, tuple) and len(item) == 2 for item in given) else None


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch.jit._pickle", "restore_type_tag"):
            return lambda value, _tag: value
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, _offset, size, *_rest: (storage, tuple(size))
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is none of the names that a trace has")

    def persistent_load(self, pid: Any) -> Any:
        _, dtype, *_ = pid
        return dtype
