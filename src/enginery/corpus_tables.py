"""Reading a table of corpus.toml, and what is said of a mistake in it.

The types are the specification of the file: an unknown key, a missing one, a wrong type or a
value out of bounds is refused by them, and the refusal is put in the words of the file.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec

from .digest import read_regular
from .errors import CorpusError, IrregularFileError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the same parser under its name before Python 3.11
    import tomli as tomllib

_LIMIT = 64 << 20

_T = TypeVar("_T")


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says.

    Raises:
        CorpusError: It is missing, cannot be read, or is no TOML.
    """
    try:
        data = read_regular(path, limit=_LIMIT, follow_symlinks=True)
        parsed: dict[str, Any] = tomllib.loads(data.decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise CorpusError(
            f"{path}: there is no such file; write one, or correct the path"
        ) from error
    except (OSError, IrregularFileError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot be read ({error}); make it a UTF-8 text file") from error
    except (ValueError, RecursionError) as error:
        # TOMLDecodeError is a ValueError; so is an integer of thousands of digits.
        raise CorpusError(f"{path}: is no TOML: {error}; correct that line") from error
    return parsed


def read_table(path: Path, key: str, table: Any, kind: type[_T]) -> _T:
    """A table as its type has it.

    Raises:
        CorpusError: It is not of that type; the message names the key and the remedy.
    """
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        fault, _, where = str(error).partition(" - at `$")
        inner = where.removesuffix("`").removeprefix(".")
        raise mistake(
            path, ".".join(filter(None, (key, inner))), _explain(fault, inner, kind)
        ) from (error)


def _explain(fault: str, inner: str, kind: type[Any]) -> str:
    """The parser's message in the words of the file, with a remedy."""
    if match := re.fullmatch(r"Object contains unknown field `(.+)`", fault, re.DOTALL):
        known = [field.name for field in msgspec.structs.fields(_owner(inner, kind))]
        hint = nearest(match[1], known) or "remove it"
        return f"unknown key {match[1]!r}; {hint}; known are {', '.join(known)}"
    if match := re.fullmatch(r"Object missing required field `(.+)`", fault):
        return f"the key {match[1]!r} is missing; add it, for example {_example(match[1])}"
    name = re.split(r"[.\[]", inner)[-1 if "." in inner and "[" not in inner else 0]
    if match := re.fullmatch(r"Invalid enum value (.+)", fault, re.DOTALL):
        known = _choices(inner, kind)
        hint = nearest(match[1][1:-1], known) or f"write for example {_example(name)}"
        return f"unknown value {match[1]}; {hint}; known are {', '.join(known)}"
    said = fault[0].lower() + fault[1:].replace("`", "")
    if fault.startswith("Expected `object`") and (table := _TABLES.get(inner or kind.__name__)):
        return f"{said}; write a table, for example {table}"
    if not inner:
        # A fault of the table as a whole has its remedy in its own words.
        return said
    return f"{said}; write for example {_example(name)}"


def _owner(inner: str, kind: type[Any]) -> type[Any]:
    """The type of the table at a place inside a table of type `kind`."""
    for part in filter(None, re.sub(r"\[.*?\]", "", inner).split(".")):
        types = {field.name: field.type for field in msgspec.structs.fields(kind)}
        kind = next(filter(_is_table, _parts(types[part])), kind)
    return kind


def _choices(inner: str, kind: type[Any]) -> list[str]:
    """The values that there are at a place inside a table of type `kind`."""
    *tables, last = re.sub(r"\[.*?\]", "", inner).split(".")
    owner = _owner(".".join(tables), kind)
    types = {field.name: field.type for field in msgspec.structs.fields(owner)}
    found: list[str] = []
    for part in _parts(types[last]):
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, type) and issubclass(part, Enum):
            found += (str(member.value) for member in part)
    return list(dict.fromkeys(found))


def _parts(kind: Any) -> Iterator[Any]:
    """A type and the types that it is made of."""
    yield kind
    for part in get_args(kind):
        yield from _parts(part)


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


_EXAMPLES = {
    "schema": "schema = 1",
    "count": "count = 2",
    "names": 'names = ["van-1", "van-2"]',
    "engines": 'engines = "engines"',
    "precision": 'precision = ["fp16"]',
    "targets": 'targets = ["rtx"]',
    "workspace_mb": "workspace_mb = 4096",
    "sm": "sm = [86, 89, 120]",
    "jetpack": 'jetpack = "6.2"',
    "elsewhere": 'elsewhere = "skip"',
    "cpu": 'cpu = "x86-64-v3"',
    "local": "local = false",
    "path": 'path = "../store"',
    "remote": 'remote = "registry.example.com/team/engines"',
    "read_only": "read_only = true",
    "insecure": "insecure = true",
    "keys": 'keys = ["team.pub.pem"]',
    "require": 'require = "remote"',
    "sign_with": 'sign_with = "team.key.pem"',
    "scheduler": 'scheduler = "tls://build.example.com:8786"',
    "ca": 'ca = "farm/ca.pem"',
    "cert": 'cert = "farm/cert.pem"',
    "key": 'key = "farm/key.pem"',
    "wait_for_worker": "wait_for_worker = 60",
    "retries": "retries = 2",
    "trt": 'trt = "10.3.0.30"',
    "onnx": 'onnx = "resnet50.onnx"',
    "input_name": 'input_name = "input"',
    "expected_input_shape": "expected_input_shape = [1, 3, 224, 224]",
    "calibration": 'calibration = "resnet50.calib"',
    "builder_optimization_level": "builder_optimization_level = 3",
    "profiling_verbosity": 'profiling_verbosity = "layer_names_only"',
    "max_aux_streams": "max_aux_streams = 2",
    "tf32": "tf32 = false",
    "sparse_weights": "sparse_weights = true",
    "weight_streaming": "weight_streaming = true",
    "avg_timing_iterations": "avg_timing_iterations = 8",
    "tactic_sources": 'tactic_sources = ["CUBLAS"]',
    "tiling_optimization_level": 'tiling_optimization_level = "fast"',
    "hardware_compatibility_level": 'hardware_compatibility_level = "ampere_plus"',
    "version_compatible": "version_compatible = true",
    "default_device_type": 'default_device_type = "dla"',
    "gpu_fallback": "gpu_fallback = true",
    "plugins": 'plugins = ["libplugin.so"]',
    "keep_nodes": 'keep_nodes = ["head"]',
    "keep_operators": 'keep_operators = ["Softmax"]',
    "int8_with": 'int8_with = "fp16"',
    "io": 'io = "declared"',
    "uncovered_percent": "uncovered_percent = 10",
    "data": 'data = "calib/*.npz"',
    "method": 'method = "entropy"',
    "percentile": "percentile = 99.99",
    "samples": "samples = 4",
    "seed": "seed = 0",
    "require_check": "require_check = true",
    "max_abs": "max_abs = 0.01",
    "max_rel": "max_rel = 0.1",
    "min_cosine": "min_cosine = 0.999",
    "min_snr_db": "min_snr_db = 40.0",
    "min_equal": "min_equal = 0.98",
    "profiles": "min = { input = [1, 3, 224, 224] }, and opt and max likewise",
    "min": "min = { input = [1, 3, 224, 224] }",
    "opt": "opt = { input = [4, 3, 224, 224] }",
    "max": "max = { input = [8, 3, 224, 224] }",
}

_TABLES = {
    "corpus": "[corpus]",
    "targets": "[targets.rtx]",
    "backbones": "[backbones.resnet50]",
    "builder": "builder = { tf32 = false }",
    "memory_pools": "memory_pools = { tactic_shared_memory = 1 }",
    "host": "[host]",
    "store": "[store]",
    "trust": "[trust]",
    "farm": "[farm]",
    "devices": "[devices.orin]",
    "KindTable": "[devices.orin]",
    "StoreTable": "[store]",
    "TrustTable": "[trust]",
    "FarmTable": "[farm]",
    "lowering": 'lowering = { keep_operators = ["Softmax"] }',
    "calibrate": 'calibrate = { data = "calib/*.npz" }',
    "check": "check = { samples = 4 }",
    "fp16": "fp16 = { min_cosine = 0.999 }",
    "bf16": "bf16 = { min_cosine = 0.99 }",
    "int8": "int8 = { min_cosine = 0.98 }",
    "CorpusTable": "[corpus]",
    "TargetTable": "[targets.rtx]",
    "DeclaredHost": "[host]",
    "BuilderOptions": "builder = { tf32 = false }",
    "BackboneTable": "[backbones.resnet50]",
}


def _example(name: str) -> str:
    if name == "runtime":
        from .runtimes import known  # only where something is wrong

        return f'runtime = "{known()[0]}"'
    return _EXAMPLES.get(name, f"{name} = ...")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a misspelt one is nearest to, as a question."""
    import difflib  # only where something is wrong

    # Case is the commonest mistake, and no close match for difflib.
    folded = {one.casefold(): one for one in known}
    found = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f"did you mean {folded[found[0]]!r}?" if found else None


def mistake(path: Path, key: str, fault: str) -> CorpusError:
    """An error in the one line that users see: file, key, fault and remedy."""
    # Keys and values may hold anything; a message is one line.
    key, fault = ("".join(c if c.isprintable() else _escaped(c) for c in s) for s in (key, fault))
    return CorpusError(f"{path}: {key}: {fault}" if key else f"{path}: {fault}")


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def check_distinct(path: Path, key: str, values: Iterable[str]) -> None:
    """Raise CorpusError where a value is there twice."""
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise mistake(path, key, f"{str(value)!r} is there twice; remove one")
        seen.add(value)


def beside(path: Path, key: str, relative: str) -> Path:
    """A path of the file, which is relative to it."""
    if "\0" in relative:
        raise mistake(path, key, f"{relative!r} is no path; write one without the NUL character")
    # Normalised as text, so that a path is spelled as a user spells it in his own doit tasks.
    return Path(os.path.normpath(path.parent / relative))
