"""Decides whether an ONNX model is run from its own file or from the form that all replicas of the node share."""

from __future__ import annotations

import logging
from pathlib import Path

from fabric.errors import ModelError, RuntimeFault
from serve_apps.runtimes import LoadOptions
from serve_apps.runtimes.onnx import OnnxRuntime
from serve_apps.runtimes.onnx_file import source_bytes
from serve_apps.runtimes.prepared import discard, prepare
from serve_apps.runtimes.prepared_model import PreparedOnnx, open_prepared
from serve_apps.runtimes.refusals import refuse_precision

MIN_SHARED_BYTES = 16 * 2**20
"""Below it a copy per replica costs less than the files of the shared form."""

_log = logging.getLogger(__name__)


class OnnxLoading:
    """What `Format.runtime` names for ONNX: it loads one of two runtimes."""

    @classmethod
    def load(cls, path: Path, options: LoadOptions) -> OnnxRuntime | PreparedOnnx:
        """The shared form where the node has a cache and the model is large; its own file where that cannot be written."""
        refuse_precision(options, "an ONNX model")
        if options.cache is None or source_bytes(path) < MIN_SHARED_BYTES:
            return OnnxRuntime.load(path, options)
        try:
            return _shared(path, options.cache, options.num_threads)
        except (RuntimeFault, ModelError) as error:
            _log.warning("weights_stay_private source=%s cause=%s", path, error)
            return OnnxRuntime.load(path, options)


def _shared(path: Path, cache: Path, num_threads: int) -> PreparedOnnx:
    folder = prepare(path, cache)
    try:
        return open_prepared(folder, num_threads=num_threads)
    except ModelError:
        # Written whole, and damaged since: sizes alone are compared before it is loaded.
        discard(folder)
        return open_prepared(prepare(path, cache), num_threads=num_threads)
