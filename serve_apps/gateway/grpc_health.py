"""gRPC's standard health service, `grpc.health.v1.Health`: for probes that know gRPC and no inference protocol.

Services are the server (the empty name), `inference.GRPCInferenceService`, and each model by its name. The two messages have one field
each and are written by hand. Source: grpc/doc/health-checking.md.
"""

from __future__ import annotations

import asyncio

import grpc

from fabric.errors import UserError
from serve_apps.gateway.fleet import Fleet
from serve_apps.gateway.grpc_calls import Context
from serve_apps.gateway.infer_target import infer_target

SERVING, NOT_SERVING, SERVICE_UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"
WATCHED_EVERY_S = 1.0


class HealthCalls:
    """`check` and `watch` for `grpc.aio`, open to all."""

    def __init__(self, fleet: Fleet, services: frozenset[str]) -> None:
        self._fleet = fleet
        self._services = services

    async def check(self, message: bytes, context: Context) -> bytes:
        status = await self._status(message, context)
        if status == SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service or model")
        return status

    async def watch(self, message: bytes, context: Context) -> None:
        """The status now, and again whenever it changes."""
        told = b""
        while True:
            status = await self._status(message, context)
            if status != told:
                await context.write(status)
                told = status
            await asyncio.sleep(WATCHED_EVERY_S)

    async def _status(self, message: bytes, context: Context) -> bytes:
        try:
            # HealthCheckRequest has its service in field 1, as an inference request has its model.
            service = infer_target(message)[0]
        except UserError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        if self._fleet.is_draining:
            return NOT_SERVING
        if not service or service in self._services:
            return SERVING
        if self._fleet.is_model_ready(service):
            return SERVING
        return NOT_SERVING if service in self._fleet.routes.names() else SERVICE_UNKNOWN
