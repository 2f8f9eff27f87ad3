"""Decides which flavors a selector names, and reads how people write accelerators: `A100:4`, `A100:4x2`, `2-8`.

Invariants: letter case never matters; the empty selector and `any` name every flavor; a selector that names no flavor is an
error with the nearest one that does, never an empty answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from fabric.errors import UnknownNameError, UserError
from fabric.job import Shape
from fabric.types import Flavor

ANY = "any"
GPU = "gpu"
EXAMPLES = "A100:4 (four on one node), A100:4x2 (four on each of two nodes), A100, gpu:2, cpu:8, any"

_COUNT = r"[0-9]{1,6}"
_TEXT = re.compile(
    rf"""(?:(?P<selector>[a-z](?:[a-z0-9_.-]*[a-z0-9])?)\s*(?::\s*(?P<amount>{_COUNT}))?   # A100, A100:4
         |   (?P<bare>{_COUNT}))                                            # 4: of any GPU
         (?:\s*-\s*(?P<most>{_COUNT}))?                                     # 2-8: elastic
         (?:\s*x\s*(?P<nodes>{_COUNT}))?                                    # 4x2: on each of two nodes""",
    re.IGNORECASE | re.VERBOSE,
)


class Accelerators(NamedTuple):
    """`selector` is empty for any flavor. `per_node` accelerators (vCPUs of a CPU flavor) on each of `num_nodes` nodes."""

    selector: str
    per_node: int
    num_nodes: int


def answers(flavor: Flavor, selector: str) -> bool:
    """Whether `selector` names this flavor: by its name, family, kind or tier, or by its model (the start of its name, up to a
    hyphen: `A100` is a100-80g and a100-40g)."""
    wanted = selector.strip().lower()
    if wanted in ("", ANY):
        return True
    name = flavor.name.lower()
    return wanted in (name, flavor.family.lower(), flavor.kind.lower(), flavor.tier.lower()) or name.startswith(f"{wanted}-")


def flavors_of(selector: str, catalogue: Mapping[str, Flavor]) -> tuple[str, ...]:
    """The names of the flavors that `selector` names, in the order of the catalogue; at least one.

    Raises: UnknownNameError (`unknown_flavor`).
    """
    found = tuple(flavor.name for flavor in catalogue.values() if answers(flavor, selector))
    if not found:
        raise UnknownNameError.of("flavor", selector, words_of(catalogue))
    return found


def words_of(catalogue: Mapping[str, Flavor]) -> set[str]:
    """Every name, family, kind and tier of the catalogue: what a selector may say."""
    flavors = catalogue.values()
    return {word for flavor in flavors for word in (flavor.name, flavor.family, flavor.kind, flavor.tier)}


def parse_accelerators(text: str) -> Accelerators:
    """`A100:4x2` -> ("A100", 4, 2); `any` -> ("", 1, 1). Whether the flavor exists is for `flavors_of` to say.

    Raises: UserError (`bad_accelerators`).
    """
    match = _TEXT.fullmatch(text.strip())
    if match is None or match["bare"] or match["most"]:
        raise _bad(text)
    return _fixed(text, match)


def parse_gpus(text: str | int, *, cpus: float = 1.0, memory_bytes: int = 0) -> Shape:
    """One way to run, as written. `A100:4`: one process with four; `A100:4x2`: two such, each on a node of its own;
    `2-8` or `A100:2-8`: elastic, two to eight processes with one each; `4`: four of any GPU. `cpus` and `memory_bytes` are for
    one process.

    Raises: UserError (`bad_accelerators`).
    """
    match = _TEXT.fullmatch(str(text).strip())
    if match is None or isinstance(text, bool):
        raise _bad(text)
    if match["most"] is None:
        selector, per_node, num_nodes = _fixed(text, match)
        return Shape(selector, per_node, cpus, memory_bytes, num_bundles=num_nodes, spread=num_nodes > 1)
    least, most = match["bare"] or match["amount"], int(match["most"])
    if least is None or match["nodes"] or not 1 <= int(least) <= most:
        raise _bad(text, "; an elastic size is least-most, like 2-8 or A100:2-8")
    return Shape(_selector(match), 1, cpus, memory_bytes, num_bundles=int(least), max_bundles=most)


def _fixed(text: object, match: re.Match[str]) -> Accelerators:
    found = Accelerators(_selector(match), int(match["bare"] or match["amount"] or 1), int(match["nodes"] or 1))
    if not found.per_node or not found.num_nodes:
        raise _bad(text, "; leave it out for none")
    return found


def _selector(match: re.Match[str]) -> str:
    selector: str = match["selector"] or GPU
    return "" if selector.lower() == ANY else selector


def _bad(text: object, hint: str = "") -> UserError:
    return UserError(f"{text!r} does not name accelerators", code="bad_accelerators", hint=f"write it like {EXAMPLES}{hint}")
