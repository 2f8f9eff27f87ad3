"""Decides what kind of work a call is (domain and phase) from what the call shows: arguments, code, names, models.

Pure and bounded: nothing is imported, called or copied to judge it, except the `get_inputs` of an ONNX Runtime session. No more than
eight elements of a container and eight values of an array are read, and none that lie on a device. Objects that refuse to be looked
at (lazy proxies, C functions, a raising `__getattr__`) show nothing: the answer is then `other` and `inference`, never an exception.
"""

from __future__ import annotations

import functools
import logging
import opcode
import re
from collections import UserDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from fabric.errors import UnknownNameError
from fabric.types import DOMAINS, PHASES, Domain, Fingerprint, Phase
from profiler.model_facts import Sight
from profiler.rules import RULES, Argument, Names, Rule, plugin_rules

MIN_SCORE = 1.0
"""Below it, a domain stays `other` and a phase stays `inference`."""

_FIRST = 8
_MAX_ARGUMENTS = 16
_MAX_OBJECTS = 24
_IMPORT_NAME = opcode.opmap["IMPORT_NAME"]
_EXTENDED_ARG = opcode.opmap["EXTENDED_ARG"]
_Shown = tuple[tuple[int, ...], str, tuple[Any, ...]]
_FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType)
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
_PLAIN = (str, bytes, bytearray, int, float, complex, bool, type(None))

_log = logging.getLogger(__name__)
_broken_rules: set[str] = set()


def fingerprint(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    domain: Domain | None = None,
    phase: Phase | None = None,
    rules: Iterable[Rule] = RULES,
) -> Fingerprint:
    """The kind of work that `fn(*args, **kwargs)` is, with its evidence, strongest first. Declared values always win.

    Rules of plug-ins are added to `rules`. Equal scores go to the domain named first in `fabric.types.DOMAINS`, and to inference.

    Raises: UnknownNameError where a declared domain or phase is none of ours.
    """
    return _judged(lambda: _observe(fn, args, kwargs), domain, phase, (*rules, *plugin_rules()))


def fingerprint_model(
    sight: Sight, *, domain: Domain | None = None, phase: Phase | None = None, rules: Iterable[Rule] = RULES
) -> Fingerprint:
    """The same of a model file, from what was read of it: its operations or layers, its inputs, where it was made.

    Raises: UnknownNameError where a declared domain or phase is none of ours.
    """
    # A model file trains if its operations do; an input that is called `lr` is a picture of low resolution.
    fitting = [rule for rule in (*rules, *plugin_rules()) if rule.phase is None or rule.looks_at == "model"]
    return _judged(lambda: _model_seen(sight), domain, phase, fitting)


def _judged(observe: Callable[[], _Seen], domain: Domain | None, phase: Phase | None, rules: Iterable[Rule]) -> Fingerprint:
    """Sums up the rules that fire. Nothing is looked at where all is declared."""
    declared = (*_declared("domain", domain, DOMAINS), *_declared("phase", phase, PHASES))
    if domain is not None and phase is not None:
        return Fingerprint(domain, phase, declared)
    scores: dict[str, float] = dict.fromkeys((*DOMAINS, *PHASES), 0.0)
    evidence: list[tuple[float, str]] = []
    for rule, detail in _fired(rules, observe()):
        for answer in (rule.domain if domain is None else None, rule.phase if phase is None else None):
            if answer is not None:
                scores[answer] += rule.weight
                evidence.append((rule.weight, f"{answer} +{rule.weight:g}: {rule.name}" + (f" ({detail})" if detail else "")))
    best = max(DOMAINS, key=lambda name: scores[name])
    trains = scores["training"] >= MIN_SCORE and scores["training"] > scores["inference"]
    return Fingerprint(
        domain or (best if scores[best] >= MIN_SCORE else "other"),
        phase or ("training" if trains else "inference"),
        (*declared, *(line for _, line in sorted(evidence, key=lambda entry: -entry[0]))),
    )


def _declared(noun: str, value: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    if value is None:
        return ()
    if value not in known:
        raise UnknownNameError.of(noun, str(value), known)
    return (f"declared: {noun} {value}",)


class _Seen:
    """What a call shows, as it is gathered."""

    __slots__ = ("arguments", "function", "models", "modules", "object_ids", "parameters", "used")

    def __init__(self) -> None:
        self.arguments: list[Argument] = []
        self.modules: set[str] = set()
        self.models: set[str] = set()
        self.function: set[str] = set()
        self.parameters: set[str] = set()
        self.used: set[str] = set()
        self.object_ids: set[int] = set()


def _model_seen(sight: Sight) -> _Seen:
    seen = _Seen()
    seen.models.update(sight.classes)
    seen.modules.update(sight.modules)
    for tensor in sight.inputs[:_MAX_ARGUMENTS]:
        seen.parameters.update(_words(tensor.name))
        seen.arguments.append(Argument(tensor.name, "model.Input", None, tensor.shape, tensor.dtype))
    return seen


def _fired(rules: Iterable[Rule], seen: _Seen) -> Iterator[tuple[Rule, str]]:
    """Every rule that finds something, once, with what it found. A rule that raises is logged once and finds nothing."""
    views: dict[str, Sequence[Any]] = {
        "argument": seen.arguments,
        "module": (_with_parents(seen.modules),),
        "name": (Names(frozenset(seen.function), frozenset(seen.parameters), frozenset(seen.used)),),
        "model": ("\n".join(sorted(seen.models)),),
    }
    for rule in rules:
        try:
            for view in views[rule.looks_at]:
                if found := rule.predicate(view):
                    detail = str(view) if rule.looks_at == "argument" else ""
                    yield rule, found if isinstance(found, str) else detail
                    break
        except Exception as error:
            if rule.name not in _broken_rules:
                _broken_rules.add(rule.name)
                _log.warning("fingerprint rule ignored name=%s error=%r", rule.name, error)


def _with_parents(modules: set[str]) -> frozenset[str]:
    return frozenset(name[:end] for name in modules for end in (*(m.start() for m in re.finditer(r"\.", name)), len(name)))


def _observe(fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Seen:
    """Gathers what the call shows. Each part is guarded on its own, so that one odd object hides only itself."""
    seen = _Seen()
    names: tuple[str, ...] = ()
    with suppress(Exception):
        fn, is_bound, args, kwargs = _resolved(seen, fn, tuple(args), kwargs)
        seen.function.update(_words(str(fn.__name__)))
        if type(fn) is FunctionType:
            code = fn.__code__
            names = code.co_varnames[is_bound : code.co_argcount + code.co_kwonlyargcount]
            _read_function(seen, fn, is_helper=False)
        elif type(fn.__module__) is str:
            seen.modules.add(fn.__module__)
    with suppress(Exception):
        given = (
            *zip((*names, *[""] * len(args)), args, strict=False),
            *((str(key), kwargs[key]) for key in islice(kwargs, _MAX_ARGUMENTS)),
        )
        seen.parameters.update(word for name in {*names, *(name for name, _ in given)} for word in _words(name))
        for name, value in given[:_MAX_ARGUMENTS]:
            with suppress(Exception):
                _note_argument(seen, name, value)
                _note_object(seen, value)
    return seen


def _resolved(
    seen: _Seen, fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, bool, tuple[Any, ...], Mapping[str, Any]]:
    """Follows partials, wrappers, methods, classes and callable objects to the function that runs; says whether it takes `self`."""
    is_bound = False
    for _ in range(_FIRST):
        kind = type(fn)
        wrapped = _own_dict(fn).get("__wrapped__")
        if issubclass(kind, functools.partial):
            fn, args, kwargs = fn.func, (*fn.args, *args), {**fn.keywords, **kwargs}
        elif callable(wrapped):
            fn = wrapped
        elif kind is MethodType:
            is_bound, owner, fn = True, fn.__self__, fn.__func__
            seen.function.update(_words((owner if issubclass(type(owner), type) else type(owner)).__name__))
            _note_object(seen, owner)
        elif kind is FunctionType or (kind.__module__ == "builtins" and kind is not type):
            break
        else:
            is_class = issubclass(kind, type)
            run = fn.__init__ if is_class else getattr(kind, "forward", None) or kind.__call__
            seen.function.update(_words((fn if is_class else kind).__name__))
            _note_object(seen, fn)
            if type(run) is not FunctionType:
                break
            is_bound, fn = True, run
    return fn, is_bound, args, kwargs


def _read_function(seen: _Seen, function: FunctionType, *, is_helper: bool) -> None:
    """The names in its code, the modules it imports, the globals and closures it refers to, and its helpers, one level deep."""
    names, used, imported = _code_facts(function.__code__)
    seen.used |= used
    seen.modules.update(imported)
    if type(function.__module__) is str:
        seen.modules.add(function.__module__)
    scope = function.__globals__
    helpers: list[FunctionType] = []
    for found in (*_cell_contents(function), *(scope[name] for name in names if name in scope)):
        if type(found) is not FunctionType or found.__module__ != function.__module__:
            _note_object(seen, found)
        elif found is not function:
            helpers.append(found)
    for helper in helpers[: 0 if is_helper else _FIRST]:
        _read_function(seen, helper, is_helper=True)


def _cell_contents(function: FunctionType) -> Iterator[Any]:
    for cell in (function.__closure__ or ())[:_FIRST]:
        with suppress(ValueError):  # an empty cell
            yield cell.cell_contents


@functools.lru_cache(maxsize=1024)
def _code_facts(code: CodeType, depth: int = 0) -> tuple[tuple[str, ...], frozenset[str], frozenset[str]]:
    """(names that may be globals, all names in lower case, imported modules) of a code object and of the code nested in it."""
    names, imported = code.co_names[:128], {code.co_names[index] for index in _import_indices(code.co_code[:16384])}
    used = {name.lower() for name in (*names, *code.co_varnames[:64], *code.co_freevars)}
    if imported:  # the tuples of names among the constants are what `from … import` takes from a module
        taken = [name for const in code.co_consts if type(const) is tuple for name in const if type(name) is str]
        imported |= {f"{module}.{name}" for module in imported for name in taken[:_FIRST]}
    if depth < 2:
        for nested in islice((const for const in code.co_consts if type(const) is CodeType), _FIRST):
            more_names, more_used, more_imported = _code_facts(nested, depth + 1)
            names, used, imported = (*names, *more_names), used | more_used, imported | more_imported
    return names, frozenset(used), frozenset(imported)


def _import_indices(code: bytes) -> Iterator[int]:
    """Indices into co_names of every IMPORT_NAME; instructions are pairs of (operation, argument)."""
    high = 0
    for operation, low in zip(code[::2], code[1::2], strict=False):
        if operation == _IMPORT_NAME:
            yield high | low
        high = (high | low) << 8 if operation == _EXTENDED_ARG else 0


@functools.lru_cache(maxsize=4096)
def _words(identifier: str) -> tuple[str, ...]:
    return (identifier.lower(), *(word.lower() for word in _WORD.findall(identifier[:128])))


def _own_dict(value: Any) -> dict[str, Any]:
    """The instance's own attributes, without asking its `__getattr__`."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except Exception:
        return {}
    return found if type(found) is dict else {}


def _note_object(seen: _Seen, value: Any, depth: int = 0) -> None:
    """Notes where an object comes from and its class; of a model also its layers or steps."""
    kind = type(value)
    if kind in _PLAIN or id(value) in seen.object_ids or len(seen.object_ids) >= _MAX_OBJECTS:
        return
    seen.object_ids.add(id(value))
    with suppress(Exception):
        if kind in (dict, list, tuple):
            inner: Iterable[Any] = value.values() if kind is dict else value
        elif issubclass(kind, ModuleType):
            seen.modules.add(str(_own_dict(value).get("__name__")))
            return
        elif issubclass(kind, type) or kind in _FUNCTIONS:
            seen.modules.add(str(value.__module__))
            if kind is MethodType:
                _note_object(seen, value.__self__, depth + 1)
            elif kind not in _FUNCTIONS:
                seen.models.add(str(value.__name__).lower())
            return
        else:
            seen.modules.add(str(kind.__module__))
            seen.models.add(kind.__name__.lower())
            _note_session(seen, value, kind)
            own = {} if hasattr(kind, "shape") else _own_dict(value)
            inner = (own.get("_modules") or own).values()
        if depth < 3:
            for part in islice(inner, _FIRST):
                _note_object(seen, part, depth + 1)


def _note_session(seen: _Seen, value: Any, kind: type) -> None:
    """The inputs of an ONNX Runtime session tell what its model takes."""
    if not kind.__module__.startswith("onnxruntime") or not hasattr(kind, "get_inputs"):
        return
    for node in value.get_inputs()[:_FIRST]:
        shape = tuple(dim if type(dim) is int else 0 for dim in node.shape)
        seen.parameters.update(_words(node.name))
        seen.arguments.append(Argument(node.name, "onnxruntime.NodeArg", None, shape, node.type[7:-1]))


def _note_argument(seen: _Seen, name: str, value: Any, depth: int = 0) -> None:
    """Notes an argument, and of a container its first elements (two of a list, eight of a dict)."""
    kind = type(value)
    shown: _Shown = ((), "", ())
    inner: tuple[Any, ...] = ()
    if kind in (list, tuple):
        shown = _nested(value)
        inner = () if shown[1] else tuple(value[:2])
    elif issubclass(kind, (dict, UserDict)):
        inner = tuple(islice(value.values(), _FIRST))
        shown = (), "", tuple(islice(value, _FIRST))
    elif kind not in _PLAIN and hasattr(kind, "shape"):
        shown = _array(value, kind)
    seen.arguments.append(Argument(name, f"{kind.__module__}.{kind.__qualname__}", value, *shown))
    for index, part in enumerate(inner):
        if depth < 2 and len(seen.arguments) < _MAX_ARGUMENTS and type(part) not in (int, float, bool, type(None)):
            _note_argument(seen, f"{name}[{index}]", part, depth + 1)


def _nested(value: Any) -> _Shown:
    """Lists of numbers, however deep, show a shape as an array does; any other list shows its first elements only."""
    lengths: list[int] = []
    leaf = value
    while type(leaf) in (list, tuple) and leaf and len(lengths) < 5:
        lengths.append(len(leaf))
        leaf = leaf[0]
    firsts = tuple(value[:_FIRST])
    rows = {len(row) if type(row) in (list, tuple) else 0 for row in firsts}
    sample: tuple[Any, ...] = firsts if len(lengths) < 2 else (leaf,)
    if len(lengths) == 2 and 0 not in rows and type(value[-1]) is type(value[0]):
        sample = (*value[0][: _FIRST // 2], *value[-1][-_FIRST // 2 :])
    kinds = {type(element) for element in sample}
    if not kinds or not kinds <= {int, float} or (float in kinds and len(rows) > 1):
        return (), "", firsts
    return tuple(lengths), "float64" if float in kinds else "int64", sample


def _array(value: Any, kind: type) -> _Shown:
    """Shape and dtype of anything with a `shape`; values only where reading them neither copies nor waits for a device."""
    shape = tuple(dim if type(dim) is int else 0 for dim in islice(value.shape, 6))
    kind_of_value = value.dtype if hasattr(kind, "dtype") else ""
    dtype = str(getattr(kind_of_value, "name", None) or kind_of_value).removeprefix("torch.")
    is_readable = kind.__module__.partition(".")[0] in ("numpy", "torch") and str(getattr(value, "device", "cpu")) == "cpu"
    if not is_readable or len(shape) not in (1, 2) or 0 in shape:
        return shape, dtype, ()
    first, last = (value, value[_FIRST // 2 :]) if len(shape) == 1 else (value[0], value[-1])
    values = (*first[: _FIRST // 2].tolist(), *last[-_FIRST // 2 :].tolist())
    return shape, dtype, tuple(element for element in values if type(element) in (int, float, str, bool))
