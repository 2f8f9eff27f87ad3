"""Runs a prepared ONNX model: answers at once from the mapped weights, and goes over to the packed ones behind the first answers.

Both forms are mapped from files, so that all processes of a node hold one copy. The mapped form loads in milliseconds and multiplies
small batches at full speed and large ones at a half to a quarter of it; the packed form takes half a second to load.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from fabric.errors import FabricError, ModelError
from serve_apps.runtimes import LoadOptions
from serve_apps.runtimes.model import Model
from serve_apps.runtimes.onnx import Runner, closed_runner, describe, open_session
from serve_apps.runtimes.prepared import is_complete, saved_options
from serve_apps.runtimes.refusals import refuse_precision
from serve_apps.tensors import Array

SWAP_AFTER_S = 0.5
"""From the first answer to the loading of the packed form, which takes a core from the answers for half a second."""

_log = logging.getLogger(__name__)


def load_prepared(folder: Path, *, num_threads: int = 1, swap_after_s: float | None = SWAP_AFTER_S) -> Model:
    """Load what `prepare` wrote. `swap_after_s`: None stays with the mapped form until its `runtime.swap()` is called.

    Raises: `ModelError` (`prepared_damaged`, to be cured by `discard` and `prepare`).
    """
    return Model(open_prepared(folder, num_threads=num_threads, swap_after_s=swap_after_s))


def open_prepared(folder: Path, *, num_threads: int = 1, swap_after_s: float | None = SWAP_AFTER_S) -> PreparedOnnx:
    """As `load_prepared`, without the checks of what goes in."""
    if not is_complete(folder):
        raise ModelError(f"{folder} is not a whole prepared model", code="prepared_damaged", path=str(folder))
    try:
        return PreparedOnnx(folder, num_threads, swap_after_s)
    except ModelError as error:
        raise ModelError(f"{folder} does not load: {error.message}", code="prepared_damaged", path=str(folder)) from error


class PreparedOnnx:
    """A `ModelRuntime`. Safe to call from several threads; a call that runs while the forms change ends on the one it began with."""

    def __init__(self, folder: Path, num_threads: int, swap_after_s: float | None) -> None:
        self._folder = folder
        self._num_threads = num_threads
        self._swap_after_s = swap_after_s
        session = open_session(folder / "mapped.onnx", saved_options("mapped", num_threads))
        self.metadata = describe(session)
        self._run: Callable[[Mapping[str, Array]], dict[str, Array]] = Runner(session, self.metadata)
        self._lock = threading.Lock()
        self._is_swap_begun = False
        self._timer: threading.Timer | None = None
        self.is_packed = False
        # The first answer goes through `_first`; after it `infer` costs what the session costs.
        self._answer: Callable[[Mapping[str, Array]], dict[str, Array]] = self._first

    @classmethod
    def load(cls, path: Path, options: LoadOptions) -> Self:
        """`path` is the prepared folder."""
        refuse_precision(options, "an ONNX model")
        return cls(path, options.num_threads, SWAP_AFTER_S)

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return self._answer(inputs)

    def swap(self) -> None:
        """Go over to the packed form, now and in this thread; does nothing the second time, or where it does not load."""
        with self._lock:
            if self._is_swap_begun:
                return
            self._is_swap_begun = True
        began_s = time.monotonic()
        try:
            session = open_session(self._folder / "packed.onnx", saved_options("packed", self._num_threads))
            runner = Runner(session, self.metadata)
        except FabricError as error:
            _log.warning("stays_mapped folder=%s cause=%s", self._folder, error)
            return
        with self._lock:
            if self._run is closed_runner:
                return
            self._run = self._answer = runner
            self.is_packed = True
        _log.info("swapped_to_packed folder=%s took_s=%.2f", self._folder.name, time.monotonic() - began_s)

    def close(self) -> None:
        with self._lock:
            self._run = self._answer = closed_runner
            if self._timer is not None:
                self._timer.cancel()

    def _first(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        answer = self._run(inputs)
        with self._lock:
            if self._answer == self._first:
                self._answer = self._run
                if self._swap_after_s is not None:
                    self._timer = threading.Timer(self._swap_after_s, self.swap)
                    self._timer.daemon = True
                    self._timer.start()
        return answer
