"""Who asks: every request becomes a `Principal` before the data plane sees it. Tokens come from the directory, as hashes.

For many threads: what is replaced is replaced whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fabric.api.tokens import IMPLIED, SCOPES, Principal, Tokens
from fabric.errors import FabricError, RejectedError

SCOPE = "infer"


class _Told:
    """The documents as they were told; nothing is written from here."""

    def __init__(self, tokens: Mapping[str, Any]) -> None:
        self._tokens = tokens

    def load(self, _stream: str) -> dict[str, Any]:
        return dict(self._tokens)

    def save(self, _stream: str, new: Mapping[str, Any]) -> None:
        """Where a token was used last is noted by the API, not here."""


class Access:
    """`is_open`: a request without a token counts as `user`'s own, as on a laptop."""

    def __init__(self, *, is_open: bool, user: str) -> None:
        self.mark = ""
        self._own = Principal(user, frozenset().union(*(IMPLIED[scope] for scope in SCOPES))) if is_open else None
        self._tokens = Tokens(_Told({}))
        self.told: tuple[Mapping[str, Any], str] = ({}, "")
        """The tokens' hashes and their mark, as they were told: for processes that are started from here."""

    def replace(self, mark: str, tokens: Mapping[str, Any]) -> None:
        """`mark` names this state of the tokens."""
        self._tokens = Tokens(_Told(tokens))
        self.mark = mark
        self.told = (tokens, mark)

    def authorize(self, headers: Mapping[bytes, bytes], /) -> Principal:
        """`headers`: names in lower case; `authorization` is `Bearer tf_…`.

        Raises: RejectedError (`unauthenticated`; `forbidden` where the token may not ask models).
        """
        given = headers.get(b"authorization")
        if not given:
            if self._own is None:
                raise RejectedError("a token is needed", code="unauthenticated", hint="send the header `Authorization: Bearer <token>`")
            return self._own
        scheme, _, token = given.decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            raise RejectedError(f"{scheme!r} is not a way to sign in here", code="unauthenticated", hint="use `Bearer <token>`")
        try:
            principal = self._tokens.principal(token.strip())
        except FabricError as error:
            raise RejectedError(error.message, code="unauthenticated", hint=error.hint) from None
        principal.must(SCOPE)
        return principal
