"""corpus.toml: a good one gives the facts, a bad one a line with file, key and remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from artifacts import within

from enginery import BackboneSpec, BuilderOptions, CorpusError, OptimizationProfile, PrecisionMode
from enginery.corpus import Corpus, read_corpus
from enginery.corpus_targets import TargetSpec
from enginery.probing import DeclaredHost

# The corpus of the manual.
MANUAL = """\
schema = 1
[corpus]
engines = "engines"
precision = ["fp16"]
targets = ["rtx"]
workspace_mb = 4096
[targets.rtx]
runtime = "tensorrt_rtx"
sm = [86, 89, 120]
[backbones.resnet50]
onnx = "resnet50.onnx"
input_name = "data"
expected_input_shape = [1, 3, 224, 224]
[backbones.vit]
onnx = "vit.onnx"
expected_input_shape = [1, 3, 224, 224]
precision = ["fp32", "fp16"]
targets = ["rtx"]
"""

# Every key that there is, each on a line of its own that stands nowhere else.
FULL = """\
schema = 1
[corpus]
engines = "out"
precision = ["fp32"]
targets = ["orin"]
workspace_mb = 2048
[targets.orin]
runtime = "tensorrt"
sm = 87
jetpack = "6.2"
trt = "10.3.0.30"
[targets.spare]
runtime = "tensorrt"
sm = [120, 86, 86]
workspace_mb = 300
elsewhere = "skip"
[targets.spare.builder]
version_compatible = true
memory_pools = { dla_local_dram = 2 }
[targets.host]
runtime = "tensorrt"
[host]
sm = 89
jetpack = "7.0"
trt = "10.13.3.9"
[backbones.vit]
onnx = "models/vit.onnx"
expected_input_shape = [1, 3, 8, 8]
input_name = "pixels"
precision = ["int8", "bf16"]
targets = ["spare", "orin"]
workspace_mb = 100
calibration = "../vit.calib"
[backbones.vit.builder]
builder_optimization_level = 5
profiling_verbosity = "detailed"
max_aux_streams = 0
tf32 = false
sparse_weights = true
[[backbones.vit.profiles]]
min = { pixels = [1, 3], mask = [1] }
opt = { pixels = [2, 3], mask = [2] }
max = { pixels = [4, 3], mask = [4] }
[[backbones.vit.profiles]]
min = { pixels = [8, 3], mask = [8] }
opt = { pixels = [8, 3], mask = [8] }
max = { pixels = [8, 3], mask = [8] }
"""


def read(folder: Path, text: str | bytes) -> Corpus:
    path = folder / "corpus.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with within(20):
        return read_corpus(path)


def test_the_corpus_of_the_manual(tmp_path: Path) -> None:
    corpus = read(tmp_path, MANUAL)
    assert corpus.path == tmp_path / "corpus.toml"
    assert corpus.engines == tmp_path / "engines"
    assert corpus.targets == {
        "rtx": TargetSpec("rtx", "tensorrt_rtx", (86, 89, 120), jetpack=None, trt=None)
    }
    resnet50, vit = corpus.backbones
    shape = (1, 3, 224, 224)
    assert resnet50.spec == BackboneSpec("resnet50", tmp_path / "resnet50.onnx", shape, "data")
    assert vit.spec == BackboneSpec("vit", tmp_path / "vit.onnx", shape)
    assert vit.spec.input_name == "input"
    assert resnet50.precisions == (PrecisionMode.FP16,)
    assert vit.precisions == (PrecisionMode.FP32, PrecisionMode.FP16)
    for backbone in corpus.backbones:
        assert backbone.targets == ("rtx",)
        assert backbone.workspace_mb == {"rtx": 4096}
        assert backbone.calibration_path is None
        assert backbone.spec.builder == BuilderOptions()
        assert backbone.spec.optimization_profiles == (
            OptimizationProfile(backbone.spec.input_name, shape, shape, shape),
        )


def test_every_key(tmp_path: Path) -> None:
    corpus = read(tmp_path, FULL)
    assert corpus.engines == tmp_path / "out"
    assert corpus.targets == {
        "orin": TargetSpec("orin", "tensorrt", 87, "6.2", "10.3.0.30"),
        "spare": TargetSpec(
            "spare",
            "tensorrt",
            (86, 120),
            None,
            None,
            workspace_mb=300,
            elsewhere="skip",
            builder={"version_compatible": True, "memory_pools": {"dla_local_dram": 2}},
        ),
        "host": TargetSpec("host", "tensorrt", None, None, None),
    }
    assert corpus.host == DeclaredHost(sm=89, jetpack="7.0", trt="10.13.3.9")
    (vit,) = corpus.backbones
    assert vit.precisions == (PrecisionMode.INT8, PrecisionMode.BF16)
    assert vit.targets == ("spare", "orin")
    assert vit.workspace_mb == {"spare": 100, "orin": 100}
    assert vit.calibration_path == tmp_path.parent / "vit.calib"
    assert vit.spec.onnx_path == tmp_path / "models" / "vit.onnx"
    assert vit.spec.expected_input_shape == (1, 3, 8, 8)
    assert vit.spec.input_name == "pixels"
    assert vit.spec.builder == BuilderOptions(
        builder_optimization_level=5,
        profiling_verbosity="detailed",
        max_aux_streams=0,
        tf32=False,
        sparse_weights=True,
    )
    assert vit.spec.optimization_profiles == (
        OptimizationProfile("pixels", (1, 3), (2, 3), (4, 3), 0),
        OptimizationProfile("mask", (1,), (2,), (4,), 0),
        OptimizationProfile("pixels", (8, 3), (8, 3), (8, 3), 1),
        OptimizationProfile("mask", (8,), (8,), (8,), 1),
    )


def test_defaults(tmp_path: Path) -> None:
    corpus = read(
        tmp_path,
        """
        schema = 1
        [targets.rtx]
        runtime = "tensorrt_rtx"
        sm = 86
        [backbones.vit]
        onnx = "vit.onnx"
        expected_input_shape = [1]
        targets = ["rtx"]
        """,
    )
    assert corpus.engines == tmp_path / "engines"
    (vit,) = corpus.backbones
    assert vit.precisions == (PrecisionMode.FP32,)
    assert vit.workspace_mb == {"rtx": 4096}


def test_a_corpus_without_backbones(tmp_path: Path) -> None:
    corpus = read(tmp_path, "schema = 1\n")
    assert (corpus.backbones, corpus.targets) == ((), {})


def test_profiles_will_do_without_a_shape(tmp_path: Path) -> None:
    (vit,) = read(tmp_path, FULL.replace("expected_input_shape = [1, 3, 8, 8]\n", "")).backbones
    assert vit.spec.expected_input_shape == ()
    assert vit.spec.optimization_profiles[0].opt_shape == (2, 3)


def test_paths_are_relative_to_the_file_not_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "corpus.toml").write_text(FULL)
    monkeypatch.chdir(tmp_path)
    corpus = read_corpus("sub/corpus.toml")
    assert corpus.path == Path("sub/corpus.toml")
    assert corpus.engines == Path("sub/out")
    assert corpus.backbones[0].spec.onnx_path == Path("sub/models/vit.onnx")
    assert corpus.backbones[0].calibration_path == Path("vit.calib")


def test_absolute_paths_stay(tmp_path: Path) -> None:
    corpus = read(tmp_path, FULL.replace('"models/vit.onnx"', '"/models/vit.onnx"'))
    assert corpus.backbones[0].spec.onnx_path == Path("/models/vit.onnx")


def message(folder: Path, text: str | bytes) -> str:
    """What is said of a bad file: always one line that begins with the file."""
    with pytest.raises(CorpusError) as raised:
        read(folder, text)
    said = str(raised.value)
    assert said.splitlines() == [said]
    assert said.startswith(f"{folder / 'corpus.toml'}: ")
    assert "= ..." not in said, "an example that is none"
    return said.removeprefix(f"{folder / 'corpus.toml'}: ")


def with_line(key: str, line: str, table: str = "") -> str:
    """The full corpus with a key's line in another form."""
    start = FULL.index(f"[{table}]\n") if table else 0
    changed, count = re.subn(
        rf"^{key} = .*$", lambda _: line, FULL[start:], count=1, flags=re.MULTILINE
    )
    assert count == 1
    return FULL[:start] + changed


# The table of each key, the key, and values that it cannot have.
WRONG = [
    ("", "schema", ["true", '"1"', "1.0", "[1]", "1979-05-27"]),
    ("corpus", "engines", ["1", '""', '["engines"]', "true"]),
    ("corpus", "precision", ['"fp16"', "[]", "[16]", '["fp17"]', '["FP16"]', "true"]),
    ("corpus", "targets", ['"rtx"', "[]", "[1]", '[""]']),
    ("corpus", "workspace_mb", ['"1 GiB"', "0", "-1", "1.5", "true"]),
    ("targets.orin", "runtime", ["1", '""', '["tensorrt"]']),
    ("targets.orin", "sm", ['"87"', "8.7", "0", "-87", "1000", "true", "[]", '["87"]', "[8.7]"]),
    ("targets.orin", "jetpack", ["6.2", '""', '"6/2"', '"6_2"', '" 6.2"', "false"]),
    ("targets.orin", "trt", ["10", '""', '"10.3/0"', '"10 3"', '["10.3"]']),
    ("backbones.vit", "onnx", ["1", '""', '["a.onnx"]', '"a\\u0000b"']),
    (
        "backbones.vit",
        "expected_input_shape",
        ["3", "[]", "[1, 0]", "[1, -1]", '["batch"]', "[1.0]", "[[1]]", "[true]"],
    ),
    ("backbones.vit", "input_name", ["1", '""', "[]"]),
    ("backbones.vit", "precision", ['"int8"', "[]", '["int4"]']),
    ("backbones.vit", "targets", ['"orin"', "[]", "[1]"]),
    ("backbones.vit", "workspace_mb", ['"100"', "0"]),
    ("backbones.vit", "calibration", ["true", '""']),
    ("backbones.vit.builder", "builder_optimization_level", ["6", "-1", '"3"', "true"]),
    ("backbones.vit.builder", "profiling_verbosity", ['"loud"', '"none\\n"', "1", '""']),
    ("backbones.vit.builder", "max_aux_streams", ["-2", '"2"', "1.5"]),
    ("backbones.vit.builder", "tf32", ["1", '"true"']),
    ("backbones.vit.builder", "sparse_weights", ["0", "[]"]),
    (
        "backbones.vit.profiles[0]",
        "min",
        ["[1, 3]", "{ pixels = 1, mask = [1] }", "{ pixels = [0, 3], mask = [1] }"],
    ),
    ("backbones.vit.profiles[0]", "opt", ["1", "{ pixels = [], mask = [1] }"]),
    ("backbones.vit.profiles[0]", "max", ["true", "{ pixels = [1.5], mask = [1] }"]),
]


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        pytest.param(table, key, value, id=f"{table}.{key}={value}")
        for table, key, values in WRONG
        for value in values
    ],
)
def test_a_wrong_value_of_any_key(tmp_path: Path, table: str, key: str, value: str) -> None:
    header = table.replace(".profiles[0]", ".builder")
    said = message(tmp_path, with_line(key, f"{key} = {value}", header))
    assert said.startswith(f"{table}.{key}" if table else key)
    assert "; write " in said or "; did you mean " in said


@pytest.mark.parametrize(
    ("table", "line", "said"),
    [
        (
            "corpus",
            'precision = ["fp61"]',
            (
                "corpus.precision[0]: unknown value 'fp61'; did you mean 'fp16'?; "
                "known are fp32, fp16, bf16, int8, fp8"
            ),
        ),
        (
            "backbones.vit",
            'precision = { orin = ["fp32", "BF16"] }',
            (
                "backbones.vit.precision[...][1]: unknown value 'BF16'; did you mean 'bf16'?; "
                "known are fp32, fp16, bf16, int8, fp8"
            ),
        ),
        (
            "backbones.vit",
            'precision = ["half"]',
            (
                "backbones.vit.precision[0]: unknown value 'half'; write for example "
                'precision = ["fp16"]; known are fp32, fp16, bf16, int8, fp8'
            ),
        ),
        (
            "targets.orin",
            'elsewhere = "skipp"',
            (
                "targets.orin.elsewhere: unknown value 'skipp'; did you mean 'skip'?; "
                "known are fail, skip"
            ),
        ),
        (
            "backbones.vit",
            'calibrate = { data = "a.npz", method = "min-max" }',
            (
                "backbones.vit.calibrate.method: unknown value 'min-max'; did you mean 'minmax'?; "
                "known are entropy, minmax, percentile"
            ),
        ),
        (
            "backbones.vit",
            'lowering = { int8_with = "f16" }',
            (
                "backbones.vit.lowering.int8_with: unknown value 'f16'; did you mean 'fp16'?; "
                "known are fp16, fp32"
            ),
        ),
        (
            "backbones.vit.builder",
            'hardware_compatibility_level = "ampere+"',
            (
                "backbones.vit.builder.hardware_compatibility_level: unknown value 'ampere+'; "
                "did you mean 'ampere_plus'?; known are none, ampere_plus, same_compute_capability"
            ),
        ),
        (
            "trust",
            'require = "remot"',
            (
                "trust.require: unknown value 'remot'; did you mean 'remote'?; "
                "known are none, remote, all"
            ),
        ),
    ],
)
def test_a_misspelt_value(tmp_path: Path, table: str, line: str, said: str) -> None:
    key = line.partition(" ")[0]
    text = FULL if f"[{table}]\n" in FULL else f"{FULL}[{table}]\n"
    start = text.index(f"[{table}]\n") + len(f"[{table}]\n")
    end = text.find("\n[", start)
    body = re.sub(rf"^{key} = .*\n", "", text[start:end], flags=re.MULTILINE)
    assert message(tmp_path, f"{text[:start]}{line}\n{body}{text[end:]}") == said


@pytest.mark.parametrize("key", ["corpus", "targets", "backbones"])
def test_a_value_for_a_table(tmp_path: Path, key: str) -> None:
    said = message(tmp_path, f"schema = 1\n{key} = 1\n")
    assert said.startswith(f"{key}: expected")
    assert f"[{key}" in said


@pytest.mark.parametrize("key", ["targets.rtx", "backbones.vit"])
def test_a_value_for_a_table_in_a_table(tmp_path: Path, key: str) -> None:
    said = message(tmp_path, f"schema = 1\n{key} = 1\n")
    assert said.startswith(f"{key}: expected")
    assert f"[{key.partition('.')[0]}." in said


@pytest.mark.parametrize(
    ("key", "value"), [("builder", "1"), ("profiles", "1"), ("profiles", "[1]")]
)
def test_a_value_for_a_table_of_a_backbone(tmp_path: Path, key: str, value: str) -> None:
    said = message(tmp_path, MANUAL + f"{key} = {value}\n")
    assert said.startswith(f"backbones.vit.{key}")
    assert "write " in said


@pytest.mark.parametrize(
    ("header", "misspelt", "hint"),
    [
        ("", "shema", "did you mean 'schema'?"),
        ("corpus", "engine", "did you mean 'engines'?"),
        ("targets.orin", "jetpac", "did you mean 'jetpack'?"),
        ("backbones.vit", "expected_input_shapes", "did you mean 'expected_input_shape'?"),
        ("backbones.vit", "precisions", "did you mean 'precision'?"),
        ("backbones.vit.builder", "tf_32", "did you mean 'tf32'?"),
        ("[backbones.vit.profiles]", "opts", "did you mean 'opt'?"),
        ("corpus", "colour", "remove it"),
        ("backbones.vit.builder", "colour", "remove it"),
    ],
)
def test_an_unknown_key_at_any_level(tmp_path: Path, header: str, misspelt: str, hint: str) -> None:
    line = f"{misspelt} = 1\n"
    text = FULL.replace(f"[{header}]\n", f"[{header}]\n{line}", 1) if header else line + FULL
    said = message(tmp_path, text)
    where = header.replace("[backbones.vit.profiles]", "backbones.vit.profiles[0]")
    assert said.startswith(f"{where}: " if where else "unknown key")
    assert f"unknown key '{misspelt}'; {hint}; known are " in said


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("", "schema"),
        ("targets.orin", "runtime"),
        ("backbones.vit", "onnx"),
        ("backbones.vit.profiles[0]", "min"),
        ("backbones.vit.profiles[0]", "opt"),
        ("backbones.vit.profiles[0]", "max"),
    ],
)
def test_a_missing_key(tmp_path: Path, table: str, key: str) -> None:
    header = table.replace(".profiles[0]", ".builder")
    said = message(tmp_path, with_line(key, "", header))
    prefix = f"{table}: " if table else ""
    assert said.startswith(f"{prefix}the key '{key}' is missing; add it, for example {key} = ")


@pytest.mark.parametrize("version", [0, 2, -1, 10**30])
def test_an_unknown_schema(tmp_path: Path, version: int) -> None:
    said = message(tmp_path, with_line("schema", f"schema = {version}"))
    assert said == f"schema: version {version} is unknown; write schema = 1"


@pytest.mark.parametrize(
    "text",
    [
        "schema",
        "schema = ",
        "schema = 1 2",
        "schema == 1",
        "[corpus\n",
        "schema = 1\nschema = 1\n",
        "schema = 1\n[targets.a]\n[targets.a]\n",
        "schema = 1\n[backbones.vit]\n[corpus]\n[backbones.vit]\n",
        "schema = 'a\n",
        "{}",
        "\0",
        "x = " + "[" * 100_000,
        "schema = " + "9" * 5000,
        "x = 2025-13-45",
    ],
    ids=lambda text: repr(text[:40]),
)
def test_what_is_no_toml(tmp_path: Path, text: str) -> None:
    said = message(tmp_path, text)
    assert "correct that line" in said


def test_a_duplicate_table_is_named(tmp_path: Path) -> None:
    assert "'vit'" in message(tmp_path, MANUAL + "[backbones.vit]\n")


@pytest.mark.parametrize("data", [b"\xff\xfe", MANUAL.encode("utf-16"), b"# \xe9t\xe9\n"])
def test_what_is_no_utf_8(tmp_path: Path, data: bytes) -> None:
    assert "make it a UTF-8 text file" in message(tmp_path, data)


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "corpus.toml"
    with pytest.raises(CorpusError) as raised:
        read_corpus(path)
    assert str(raised.value) == f"{path}: there is no such file; write one, or correct the path"


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r": cannot be read \(.*\); make it a UTF-8 text file"):
        read_corpus(tmp_path)


def test_an_unknown_target(tmp_path: Path) -> None:
    said = message(tmp_path, MANUAL.replace('targets = ["rtx"]', 'targets = ["rtz"]'))
    assert said == "backbones.resnet50.targets: there is no target 'rtz'; did you mean 'rtx'?"
    said = message(tmp_path, MANUAL.replace('targets = ["rtx"]', 'targets = ["orin"]'))
    assert said.endswith("there is no target 'orin'; add a table [targets.orin]")


def test_no_target(tmp_path: Path) -> None:
    text = MANUAL.replace('targets = ["rtx"]\n', "")
    said = message(tmp_path, text)
    assert said.startswith("backbones.resnet50.targets: there is none; name one")


@pytest.mark.parametrize(
    ("key", "before", "after"),
    [
        ("precision", '["fp32", "fp16"]', '["fp32", "fp16", "fp32"]'),
        ("targets", '["spare", "orin"]', '["spare", "orin", "spare"]'),
    ],
)
def test_what_is_named_twice(tmp_path: Path, key: str, before: str, after: str) -> None:
    text = (MANUAL if before in MANUAL else FULL).replace(before, after)
    said = message(tmp_path, text)
    assert re.match(rf"backbones\.vit\.{key}: '(fp32|spare)' is there twice; remove one$", said)


@pytest.mark.parametrize(
    ("key", "line"), [("precision", '["fp32", "fp32"]'), ("targets", '["orin", "orin"]')]
)
def test_a_default_that_is_named_twice_and_not_used(tmp_path: Path, key: str, line: str) -> None:
    said = message(tmp_path, with_line(key, f"{key} = {line}", "corpus"))
    assert re.match(rf"corpus\.{key}: '(fp32|orin)' is there twice; remove one$", said)


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "a b", "", "ü", "_a", "a\\n", "a\\u0000"])
def test_a_model_name_that_is_no_safe_file_name(tmp_path: Path, name: str) -> None:
    said = message(tmp_path, MANUAL.replace("[backbones.vit]", f'[backbones."{name}"]'))
    assert said.startswith("backbones.")
    assert "is no safe file name; use letters, digits" in said


@pytest.mark.parametrize("name", ["a/b", "-a", "a b", "", "ü", "a+b", "a\\n", "a:b"])
def test_a_bad_target_name(tmp_path: Path, name: str) -> None:
    said = message(tmp_path, MANUAL.replace("[targets.rtx]", f'[targets."{name}"]'))
    assert said.startswith("targets.")
    assert "a target's name has only letters, digits" in said
    assert said.endswith("; rename it")


@pytest.mark.parametrize(
    "text",
    [
        'schema = 1\n"a\\nb" = 1\n',
        MANUAL + '"a\\nb" = 1\n',
        MANUAL.replace('targets = ["rtx"]', 'targets = ["a\\nb"]'),
        MANUAL.replace('precision = ["fp16"]', 'precision = ["a\\nb"]'),
    ],
    ids=["key", "key of a backbone", "target", "precision"],
)
def test_line_breaks_in_keys_and_values_stay_out_of_the_message(tmp_path: Path, text: str) -> None:
    assert r"a\nb" in message(tmp_path, text)


@pytest.mark.parametrize(
    "line",
    [
        "min = { pixels = [1, 3] }",
        "min = { pixels = [1, 3], masc = [1] }",
        "min = { pixels = [1, 3], mask = [1], more = [1] }",
        "min = {}",
    ],
)
def test_profiles_whose_inputs_differ(tmp_path: Path, line: str) -> None:
    said = message(tmp_path, with_line("min", line))
    assert said == "backbones.vit.profiles[0]: min, opt and max must name the same inputs"


def test_a_profile_without_inputs(tmp_path: Path) -> None:
    text = MANUAL + "[[backbones.vit.profiles]]\nmin = {}\nopt = {}\nmax = {}\n"
    assert message(tmp_path, text).startswith("backbones.vit.profiles[0]: min, opt and max must")


def test_neither_shape_nor_profiles(tmp_path: Path) -> None:
    said = message(tmp_path, MANUAL.replace("expected_input_shape = [1, 3, 224, 224]\n", ""))
    assert said.startswith("backbones.resnet50.expected_input_shape: is missing; write the input's")


def test_the_first_mistake_is_enough(tmp_path: Path) -> None:
    text = FULL.replace('engines = "out"', "engines = 1").replace('onnx = "', 'onxx = "')
    assert message(tmp_path, text).startswith("corpus.engines: ")
