"""How many tokens a model says that it read and wrote. Models report them as parameters of their answers; no report counts as 0."""

from __future__ import annotations

from collections.abc import Sequence

from serve_apps.tensors import InferResponse

PROMPT, COMPLETION = "prompt_tokens", "completion_tokens"


def usage(responses: Sequence[InferResponse], *, has_completion: bool = True) -> dict[str, int]:
    """Over answers to several requests: they add. Over the answers of one stream, give the last one that reports."""
    prompt, completion = (sum(_reported(response, name) for response in responses) for name in (PROMPT, COMPLETION))
    counted = {PROMPT: prompt, **({COMPLETION: completion} if has_completion else {})}
    return {**counted, "total_tokens": prompt + completion}


def reports(response: InferResponse) -> bool:
    return PROMPT in response.parameters or COMPLETION in response.parameters


def _reported(response: InferResponse, name: str) -> int:
    value = response.parameters.get(name, 0)
    return value if type(value) is int and value >= 0 else 0
