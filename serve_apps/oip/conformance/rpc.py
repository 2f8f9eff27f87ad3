"""The kit's gRPC side: calls by name with the kit's own messages, every exchange recorded as evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import text_format

from serve_apps.oip.conformance.check import Failed, expect
from serve_apps.oip.conformance.messages import CLASSES, METHODS, SERVICE
from serve_apps.oip.conformance.rest import EXCERPT

MOST_BYTES = 64 * 2**20


class Refused(Exception):
    """A call ended with a status that is not OK; `code` is its name, as `NOT_FOUND`."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code}: {details}")
        self.code = code
        self.details = details


@dataclass(slots=True)
class Rpc:
    """`address`: HOST:PORT. `log`: the exchanges of the running check."""

    address: str
    token: str = ""
    timeout_s: float = 30.0
    log: list[str] = field(default_factory=list)
    _channel: Any = None

    def call(self, method: str, document: Mapping[str, Any] | None = None, *, message: Any = None) -> Any:
        """The answer to a unary call. Raises: `Refused`."""
        asked, answered = METHODS[method]
        request = message if message is not None else CLASSES[asked](**(document or {}))
        self.log.append(f"{method} {shown(request)}")
        stub = self._open().unary_unary(
            SERVICE + method, request_serializer=lambda each: each.SerializeToString(), response_deserializer=CLASSES[answered].FromString
        )
        try:
            answer = stub(request, timeout=self.timeout_s, metadata=self._metadata())
        except grpc.RpcError as error:
            raise self._refused(error) from None
        self.log.append(f"-> {shown(answer)}")
        return answer

    def refused(self, method: str, document: Mapping[str, Any] | None = None, *, message: Any = None) -> str:
        """The status with which the call fails. Raises: `Failed` where it succeeds, fails without a message, or for lack of a server."""
        try:
            answer = self.call(method, document, message=message)
        except Refused as refused:
            holds = bool(refused.details) and refused.code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "UNIMPLEMENTED")
            expect(holds, "a status of the request, with a message", str(refused))
            return refused.code
        raise Failed("a status other than OK", f"OK: {shown(answer)}")

    def stream(self, requests: Iterable[Any]) -> list[Any]:
        """All answers of one ModelStreamInfer. Raises: `Refused`."""
        sent = list(requests)
        self.log += [f"ModelStreamInfer {shown(request)}" for request in sent]
        stub = self._open().stream_stream(
            SERVICE + "ModelStreamInfer",
            request_serializer=lambda each: each.SerializeToString(),
            response_deserializer=CLASSES["ModelStreamInferResponse"].FromString,
        )
        answers = []
        try:
            for answer in stub(iter(sent), timeout=self.timeout_s, metadata=self._metadata()):
                self.log.append(f"-> {shown(answer)}")
                answers.append(answer)
        except grpc.RpcError as error:
            raise self._refused(error) from None
        return answers

    def _refused(self, error: Any) -> Refused:
        refused = Refused(error.code().name, error.details() or "")
        self.log.append(f"-> {refused}")
        return refused

    def _open(self) -> Any:
        if self._channel is None:
            limits = [("grpc.max_send_message_length", MOST_BYTES), ("grpc.max_receive_message_length", MOST_BYTES)]
            self._channel = grpc.insecure_channel(self.address, limits)
        return self._channel

    def _metadata(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.token}")] if self.token else []

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._channel = None


def shown(message: Any) -> str:
    text = text_format.MessageToString(message, as_one_line=True)
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]} …"
