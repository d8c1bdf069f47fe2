"""The JSON Schema of corpus.toml: made from the parser's types, and of one mind with the parser."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_corpus import FULL, MANUAL, WRONG, with_line

from enginery import CorpusError
from enginery.corpus import read_corpus
from enginery.corpus_schema import generate, shipped

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA: dict[str, Any] = json.loads(shipped())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

REPOSITORY = Path(__file__).parent.parent


def accepts(text: str) -> bool:
    """Whether the schema takes a corpus file."""
    return VALIDATOR.is_valid(tomllib.loads(text))


def parses(folder: Path, text: str) -> bool:
    """Whether the parser takes it."""
    path = folder / "corpus.toml"
    path.write_text(text)
    try:
        read_corpus(path)
    except CorpusError:
        return False
    return True


def test_it_is_what_the_types_make() -> None:
    assert json.loads(generate()) == SCHEMA, "python -m enginery.corpus_schema writes it again"


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["$id"] == "urn:enginery:corpus:1"


def test_every_key_is_described_and_no_other_is_allowed() -> None:
    for name, table in {"the file": SCHEMA, **SCHEMA["$defs"]}.items():
        assert table["description"], name
        for key, shape in table.get("properties", {}).items():
            assert shape.get("description"), f"{name}: {key}"
        if "properties" in table:
            assert table["additionalProperties"] is False, name
    assert '"null"' not in shipped().decode(), "TOML has no null"


def test_every_reference_leads_somewhere() -> None:
    for name in re.findall(r'"#/\$defs/(\w+)"', shipped().decode()):
        assert name in SCHEMA["$defs"]


README = re.findall(r"```toml\n(schema = 1.*?)```", (REPOSITORY / "README.md").read_text(), re.S)

TABLES = """\
[store]
local = false
path = "~/store"
remote = "registry.example.com/team/engines"
read_only = true
insecure = true
[trust]
keys = ["team.pub.pem"]
require = "all"
sign_with = "team.key.pem"
"""

GOOD = {
    "nothing": "schema = 1\n",
    "the manual's": MANUAL,
    "every key": FULL,
    "store and trust": FULL + TABLES,
    "the reference corpus": (REPOSITORY / "models" / "corpus.toml").read_text(),
    **{f"README {number}": text for number, text in enumerate(README)},
    "precision by target": FULL.replace(
        'precision = ["int8", "bf16"]', 'precision = { orin = ["bf16"] }'
    ),
    "whole numbers for floats": MANUAL
    + "check = { samples = 1, seed = 0, fp16 = { max_abs = 1, min_cosine = 1 } }\n"
    + 'calibrate = { data = "a.npz", percentile = 99 }\n',
    "an infinite bound": MANUAL + "check = { int8 = { max_rel = inf } }\n",
    "lowering": MANUAL + 'lowering = { keep_operators = ["Softmax"], uncovered_percent = 0 }\n',
    "a quoted name": MANUAL.replace("[backbones.vit]", '[backbones."v1.i+t-"]'),
    "a host of a CPU": 'schema = 1\nhost = { cpu = "x86-64-v3" }\n',
    "a host of two GPUs": "schema = 1\nhost = { sm = [86, 89] }\n",
}


@pytest.mark.parametrize("name", GOOD)
def test_what_both_take(tmp_path: Path, name: str) -> None:
    assert parses(tmp_path, GOOD[name])
    VALIDATOR.validate(tomllib.loads(GOOD[name]))


def test_the_readme_has_a_corpus() -> None:
    assert README


BAD = {
    **{
        f"{table}.{key}={value}": with_line(
            key, f"{key} = {value}", table.replace(".profiles[0]", ".builder")
        )
        for table, key, values in WRONG
        for value in values
    },
    **{
        f"unknown {header or 'table'}": FULL.replace(
            f"[{header}]\n", f"[{header}]\ncolour = 1\n", 1
        )
        for header in (
            "corpus",
            "targets.orin",
            "targets.spare.builder",
            "host",
            "backbones.vit",
            "backbones.vit.builder",
            "[backbones.vit.profiles]",
        )
    },
    "unknown table": "colour = 1\n" + FULL,
    "unknown in store": FULL + "[store]\ncolour = 1\n",
    "unknown in trust": FULL + "[trust]\ncolour = 1\n",
    "unknown in check": MANUAL + "check = { colour = 1 }\n",
    "unknown in tolerances": MANUAL + "check = { fp16 = { colour = 1 } }\n",
    "unknown in calibrate": MANUAL + 'calibrate = { data = "a.npz", colour = 1 }\n',
    "unknown in lowering": MANUAL + "lowering = { colour = 1 }\n",
    "unknown in memory_pools": MANUAL + "builder = { memory_pools = { colour = 1 } }\n",
    **{
        f"no {key}": with_line(key, "", table)
        for table, key in (
            ("", "schema"),
            ("targets.orin", "runtime"),
            ("backbones.vit", "onnx"),
            ("backbones.vit.builder", "min"),
            ("backbones.vit.builder", "opt"),
            ("backbones.vit.builder", "max"),
        )
    },
    "schema 2": with_line("schema", "schema = 2"),
    "no table": "schema = 1\ncorpus = 1\n",
    "no target": "schema = 1\ntargets.rtx = 1\n",
    "no backbone": "schema = 1\nbackbones.vit = []\n",
    "a precision twice": MANUAL.replace('["fp32", "fp16"]', '["fp32", "fp32"]'),
    "a target twice": FULL.replace('["spare", "orin"]', '["orin", "orin"]'),
    **{
        f"a backbone {name!r}": MANUAL.replace("[backbones.vit]", f'[backbones."{name}"]')
        for name in ("a/b", "..", ".hidden", "a b", "", "ü", "_a", "-a", "a\\u0000")
    },
    **{
        f"a target {name!r}": MANUAL + f'[targets."{name}"]\nruntime = "tensorrt"\nsm = 87\n'
        for name in ("a/b", "-a", "a b", "", "ü", "a+b", "a:b")
    },
    "neither shape nor profiles": MANUAL.replace("expected_input_shape = [1, 3, 224, 224]\n", ""),
    "no profile": MANUAL.replace("expected_input_shape = [1, 3, 224, 224]\n", "profiles = []\n"),
    "a profile without inputs": MANUAL
    + "[[backbones.vit.profiles]]\nmin = {}\nopt = {}\nmax = {}\n",
    "signatures without keys": MANUAL + '[trust]\nrequire = "remote"\n',
    "signatures with no key": MANUAL + '[trust]\nkeys = []\nrequire = "all"\n',
    "a host of nothing": "schema = 1\n[host]\n",
    "a host with a wrong version": 'schema = 1\n[host]\ntrt = "10"\n',
    "a host with a wrong CPU": 'schema = 1\n[host]\ncpu = "X86"\n',
    "a host with a wrong SM": "schema = 1\n[host]\nsm = 8\n",
    "a percentile": MANUAL + 'calibrate = { data = "a", percentile = 50 }\n',
    "a cosine": MANUAL + "check = { fp16 = { min_cosine = 2 } }\n",
}

# A schema has no word for these; only the parser refuses them.
ONLY_THE_PARSER = {
    # 1.0 is an integer to JSON Schema.
    "a float for the version": with_line("schema", "schema = 1.0"),
    "a float for a size": with_line(
        "expected_input_shape", "expected_input_shape = [1.0]", "backbones.vit"
    ),
    "a NUL in a path": with_line("onnx", 'onnx = "a\\u0000b"', "backbones.vit"),
    # Two tables that must agree.
    "a target that is not there": MANUAL.replace('targets = ["rtx"]', 'targets = ["orin"]'),
    "no target at all": MANUAL.replace('targets = ["rtx"]\n', ""),
    "a precision for what is no target": FULL.replace(
        'precision = ["int8", "bf16"]', 'precision = { host = ["bf16"] }'
    ),
    "profiles whose inputs differ": with_line(
        "min", "min = { pixels = [1, 3] }", "backbones.vit.builder"
    ),
    "int8 without a calibration cache": MANUAL.replace('["fp32", "fp16"]', '["int8"]'),
    # `$` matches before a line break at the end in Python, where other languages are strict.
    "a line break after a name": MANUAL.replace("[backbones.vit]", '[backbones."a\\n"]'),
}

# Cases of WRONG that are among them.
SAME = {
    ".schema=1.0",
    "backbones.vit.expected_input_shape=[1.0]",
    'backbones.vit.onnx="a\\u0000b"',
}


@pytest.mark.parametrize("name", BAD)
def test_what_both_refuse(tmp_path: Path, name: str) -> None:
    assert not parses(tmp_path, BAD[name])
    assert accepts(BAD[name]) == (name in SAME)


@pytest.mark.parametrize("name", ONLY_THE_PARSER)
def test_what_only_the_parser_refuses(tmp_path: Path, name: str) -> None:
    assert not parses(tmp_path, ONLY_THE_PARSER[name])
    assert accepts(ONLY_THE_PARSER[name])


VALUES = st.one_of(
    st.booleans(),
    st.integers(-2, 130),
    st.sampled_from(["", "fp16", "fp32", "skip", "tensorrt", "10.3.0.30", "a b", "none", "spare"]),
    st.just([]),
    st.lists(st.integers(0, 130), min_size=1, max_size=3),
    st.lists(st.sampled_from(["fp16", "bf16", "orin", "spare", ""]), min_size=1, max_size=3),
    st.just({}),
    st.just({"tf32": False}),
    st.just({"sm": 87}),
)


def _places(table: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document that has a key."""
    items: list[tuple[Any, Any]] = []
    if isinstance(table, dict):
        items = list(table.items())
    elif isinstance(table, list):
        items = list(enumerate(table))
    return [
        place for key, value in items for place in [(*path, key), *_places(value, (*path, key))]
    ]


def inline(value: Any) -> str:
    """A value as TOML writes it in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {inline(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value)


PLACES = _places(tomllib.loads(FULL + TABLES))


@settings(max_examples=300, deadline=None)
@given(place=st.sampled_from(PLACES), value=VALUES)
def test_any_value_in_any_place(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[Any, ...], value: Any
) -> None:
    """What the schema refuses, the parser refuses; what it takes, the parser takes or says why."""
    document = tomllib.loads(FULL + TABLES)
    table = document
    for key in place[:-1]:
        table = table[key]
    table[place[-1]] = value
    path = tmp_path_factory.getbasetemp() / "corpus.toml"
    path.write_text("".join(f"{key} = {inline(part)}\n" for key, part in document.items()))
    said = ""
    try:
        read_corpus(path)
    except CorpusError as error:
        said = str(error)
    if VALIDATOR.is_valid(document):
        beyond = (
            r"there is no target|none of its targets|must name the same inputs|"
            r"int8 needs|targets: there is none"
        )
        assert not said or re.search(beyond, said), said
    else:
        assert said, f"only the schema refuses {place} = {value!r}"
