"""What runs in a replica's process: the user's service behind two doors, HTTP/JSON and the remote `predict`.

The class is undecorated and knows nothing of Ray; `serve_apps.deployment` makes a Serve deployment of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import math
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from fabric.errors import FabricError, ModelError, UserError
from serve_apps.autoscale import CPU_UTILIZATION, CpuMeter
from serve_apps.model_service import Capture, ModelService, check_arguments, predict_signature
from serve_apps.runtimes import NUM_THREADS

# Serve's own logger: what it receives in a replica lands in that replica's log.
log = logging.getLogger("ray.serve")

_METHODS = {"/predict": ("POST",), "/healthz": ("GET", "HEAD")}


class Replica:
    """One copy of a service. `workdir`: the directory of the caller of `deploy`."""

    def __init__(self, capture: Capture, num_cpus: float, workdir: str) -> None:
        # One thread builds the service and runs every call on it, so that user code needs no locks and may hold objects that are
        # bound to their thread; the event loop stays free for health checks and measurements.
        self._lane = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")
        self._signature = predict_signature(capture.cls)
        self._service: Any = self._lane.submit(_build, capture, num_cpus, workdir).result()
        self._meter = CpuMeter(num_cpus, cpu_s=time.process_time(), now_s=time.monotonic())

    async def predict(self, *args: Any, **kwargs: Any) -> Any:
        """The remote form of the user's `predict`."""
        call = functools.partial(self._service.predict, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._lane, call)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Serve's hook: called every few seconds, kept per replica, handed to the autoscaling policy."""
        return {CPU_UTILIZATION: self._meter.read(cpu_s=time.process_time(), now_s=time.monotonic())}

    async def __call__(self, request: Request) -> Response:
        scope = request.scope
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/") or "/"
        methods = _METHODS.get(path)
        if methods is None:
            return _error(404, "not_found", f"nothing at {path}", f"known: {', '.join(sorted(_METHODS))}")
        if request.method not in methods:
            refused = _error(405, "method_not_allowed", f"{path} does not take {request.method}", f"use {methods[0]}")
            refused.headers["Allow"] = ", ".join(methods)
            return refused
        if path == "/healthz":
            return _json(200, {"status": "ok"})
        return await self._predict_http(await request.body())

    async def _predict_http(self, body: bytes) -> Response:
        try:
            arguments = _parse(body)
            check_arguments(self._signature, arguments)
        except UserError as error:
            return _error(400, error.code, error.message, error.hint)
        try:
            return _json(200, {"result": to_json(await self.predict(**arguments))})
        except FabricError as error:
            log.exception("predict failed code=%s", error.code)
            return _error(500, error.code, f"{type(error).__name__}: {error.message}", error.hint)
        except Exception as error:
            log.exception("predict failed code=predict_failed")
            return _error(500, "predict_failed", f"{type(error).__name__}: {error}", None)


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
    raise ModelError(f"predict returned {type(value).__name__}, which has no form in JSON", code="result_not_json")


def _build(capture: Capture, num_cpus: float, workdir: str) -> ModelService:
    with contextlib.suppress(OSError):
        os.chdir(workdir)
    NUM_THREADS.set(max(1, int(num_cpus)))
    try:
        return capture.build()
    except FabricError as error:
        # Serve passes on only the text of the traceback, and that shows notes but not our hint.
        error.add_note(f"code: {error.code}" + (f"\nhint: {error.hint}" if error.hint else ""))
        raise


def _parse(body: bytes) -> dict[str, Any]:
    try:
        arguments = json.loads(body or b"{}")
    except ValueError as error:
        raise UserError(f"the body is not JSON: {error}", code="bad_json", hint='send an object, as in {"input_text": "..."}') from None
    if not isinstance(arguments, dict):
        raise UserError(
            f"the body is a JSON {type(arguments).__name__}, not an object", code="bad_json", hint="name the arguments of predict"
        )
    return arguments


def _json(status: int, content: Mapping[str, Any]) -> Response:
    return Response(json.dumps(content, allow_nan=False, ensure_ascii=False) + "\n", status_code=status, media_type="application/json")


def _error(status: int, code: str, message: str, hint: str | None) -> Response:
    return _json(status, {"error": {"code": code, "message": message, "hint": hint}})
