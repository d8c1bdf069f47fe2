"""The JSON Schema of corpus.toml, made from the types that the parser reads it with.

Editors complete and check a corpus by it; `corpus.schema.json` beside this file is what it was
made to for this version, so that nothing has to be made where it is only shown. Written again by

    python -m enginery.corpus_schema

What only the parser can see, such as a target that is named and not there, is left to it.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import msgspec

from .config import BuilderOptions
from .corpus_check import CheckTable
from .corpus_farm import FarmTable
from .corpus_store import StoreTable, TrustTable
from .corpus_types import (
    MODEL_NAME,
    TARGET_NAME,
    BackboneTable,
    CorpusFile,
    CorpusTable,
    TargetTable,
)
from .probing.declared import FORMS, DeclaredHost

FILE_NAME = "corpus.schema.json"

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ID = "urn:enginery:corpus:1"

# Tables that the parser reads one by one: the table, its key, the type of what is in it.
_TABLES: tuple[tuple[type[Any], str, type[Any]], ...] = (
    (CorpusFile, "corpus", CorpusTable),
    (CorpusFile, "host", DeclaredHost),
    (CorpusFile, "store", StoreTable),
    (CorpusFile, "trust", TrustTable),
    (CorpusFile, "farm", FarmTable),
    (TargetTable, "builder", BuilderOptions),
    (BackboneTable, "builder", BuilderOptions),
    (BackboneTable, "check", CheckTable),
)

# Tables of tables: the key, the pattern of the names in it, the type of each.
_NAMED: tuple[tuple[str, str, type[Any]], ...] = (
    ("targets", TARGET_NAME, TargetTable),
    ("backbones", MODEL_NAME, BackboneTable),
)


def shipped() -> bytes:
    """The schema as it comes with this package.

    Raises:
        OSError: It is not there.
    """
    return Path(__file__).with_name(FILE_NAME).read_bytes()


def generate() -> bytes:
    """The schema, made from the types, as the file has it."""
    return (json.dumps(_schema(), indent=2, ensure_ascii=False) + "\n").encode()


def _schema() -> dict[str, Any]:
    kinds: list[Any] = [CorpusFile, *(kind for *_, kind in _TABLES), *(kind for *_, kind in _NAMED)]
    _, made = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    tables: dict[str, Any] = {name: _without_null(table) for name, table in made.items()}
    for kind in _reached(kinds):
        if _is_table(kind):
            _describe(tables[kind.__name__], kind)
    for owner, key, kind in _TABLES:
        _refer(tables[owner.__name__]["properties"][key], kind)
    root = tables.pop(CorpusFile.__name__)
    for key, pattern, kind in _NAMED:
        table = root["properties"][key]
        table["propertyNames"] = {"pattern": f"^{pattern}$"}
        table["additionalProperties"] = _ref(kind)
    _demand(tables)
    title = {"$schema": _DIALECT, "$id": _ID, "title": "corpus.toml of enginery"}
    return {**title, **{key: root[key] for key in root if key != "title"},
            "$defs": dict(sorted(tables.items()))}  # fmt: skip


def _demand(tables: dict[str, Any]) -> None:
    """What tables must hold together, which the parser's code demands and no type says."""
    some = {"minItems": 1}
    tables["BackboneTable"]["anyOf"] = [
        {"required": ["expected_input_shape"]},
        {"required": ["profiles"], "properties": {"profiles": some}},
    ]
    tables["TrustTable"]["anyOf"] = [
        {"properties": {"require": {"const": "none"}}},
        {"required": ["keys"], "properties": {"keys": some}},
    ]
    host = tables["DeclaredHost"]
    host["minProperties"] = 1
    for name, (pattern, _) in FORMS.items():
        # The digits that the parser means are ASCII; those of a schema need not be.
        host["properties"][name]["pattern"] = f"^{pattern.replace(chr(92) + 'd', '[0-9]')}$"
    host["properties"]["sm"] = _described(tables["TargetTable"]["properties"]["sm"], host, "sm")


def _described(shape: dict[str, Any], table: dict[str, Any], key: str) -> dict[str, Any]:
    return {**shape, "description": table["properties"][key]["description"]}


def _refer(place: dict[str, Any], kind: type[Any]) -> None:
    """Have a table of any keys be one of a type."""
    for key in set(place).difference({"description"}):
        del place[key]
    place.update(_ref(kind))


def _ref(kind: type[Any]) -> dict[str, str]:
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _without_null(shape: Any) -> Any:
    """A schema without null, which TOML has not."""
    if isinstance(shape, list):
        return [_without_null(part) for part in shape]
    if not isinstance(shape, dict):
        return shape
    found = {
        key: _without_null(part)
        for key, part in shape.items()
        if not (key == "default" and part is None)
    }
    if isinstance(found.get("anyOf"), list):
        found["anyOf"] = [part for part in found["anyOf"] if part != {"type": "null"}]
        if len(found["anyOf"]) == 1:
            (only,) = found.pop("anyOf")
            found = {**only, **found}
    if found.get("required") == []:
        del found["required"]
    return found


def _reached(kinds: list[Any]) -> list[Any]:
    """Types and the types of their fields, over and over."""
    found: list[Any] = list(dict.fromkeys(kinds))
    for kind in found:
        parts = [field.type for field in msgspec.structs.fields(kind)] if _is_table(kind) else []
        parts += getattr(kind, "__args__", ())
        found += [part for part in parts if part not in found]
    return found


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _describe(table: dict[str, Any], kind: type[Any]) -> None:
    """Put the docstring's words where an editor shows them: the table's and each key's."""
    words, _, attributes = inspect.cleandoc(kind.__doc__ or "").partition("\n\nAttributes:\n")
    table["description"] = " ".join(words.split("\n\n")[0].split())
    # "  name: words", and lines that go on with them are indented further.
    for name, said in re.findall(r"^    (\w+): ((?:.|\n {5,})+)", attributes, re.MULTILINE):
        if name in table["properties"]:
            table["properties"][name]["description"] = " ".join(said.split())


if __name__ == "__main__":
    Path(__file__).with_name(FILE_NAME).write_bytes(generate())
