"""The text of a new corpus.toml and dodo.py, with comments for who reads them first."""

from __future__ import annotations

import json
import re

from ..corpus_schema import FILE_NAME
from ..version import __version__
from .guess import Profile, guess
from .models import Model
from .target import CPU, HOST, PORTABLE, RTX, Chosen

_DODO = '''\
"""Engines of corpus.toml: `doit` builds what is not fresh, `doit corpus` shows them all."""

from enginery.doit import doit_config, engine_tasks

DOIT_CONFIG = doit_config()


def task_engines():
    """Engines of the corpus."""
    yield from engine_tasks("corpus.toml")
'''

_HEAD = f"""\
#:schema ./{FILE_NAME}
# Which ONNX models become engines, in which precision, for which hardware.
# Begun by enginery {__version__}, and yours from here on. Paths are relative to this file.
schema = 1

[corpus]
engines = "engines"           # the engines' folder
precision = ["fp32"]          # the model as it is; "fp16" and "bf16" are lowered from it: add them,
                              # or write them for one model. "int8" needs calibration data too.
targets = [%s]
"""

_ORIN = """\
[targets.orin]                # a Jetson Orin with this JetPack, built on one and nowhere else
runtime = "tensorrt"
sm = 87
jetpack = "6.2"
trt = "10.3.0.30"
elsewhere = "skip"            # left out on other machines; without it, its tasks fail and say why
"""

_OPEN = """\
# Models with open dimensions have profiles: an engine takes shapes from min to max, and is tuned
# for opt. What is marked as guessed is not in the model: put your own sizes there.
"""


def dodo_text() -> str:
    """The text of dodo.py."""
    return _DODO


def corpus_text(models: tuple[Model, ...], left_out: dict[str, str], target: Chosen) -> str:
    """The text of corpus.toml.

    Args:
        models: What becomes a backbone.
        left_out: Path of a model that does not, to the reason.
        target: The target that they are built for.
    """
    parts = [_HEAD % _text(target.name), *_targets(target)]
    guesses = {model.name: guess(model.inputs) for model in models}
    if any(guesses.values()):
        parts.append(_OPEN)
    parts += [_backbone(model, guesses[model.name]) for model in models]
    if left_out:
        reasons = "".join(f"#   {_safe(path)}: {_safe(why)}\n" for path, why in left_out.items())
        parts.append(f"# Left out:\n{reasons}")
    return "\n".join(parts)


def _targets(target: Chosen) -> list[str]:
    """The target that was chosen, and the others as comments."""
    tables = {
        RTX: _table(
            RTX, "tensorrt_rtx", "RTX GPUs: built on any machine, with a GPU or without",
            f"{f'sm = {list(target.sm or PORTABLE)}':<30}"
            "# compute capabilities that one engine is for\n",
        ),
        HOST: _table(HOST, "tensorrt", "the GPU of the machine that builds"),
        "orin": _ORIN,
        CPU: _table(CPU, "onnxruntime", "the CPU of the machine that builds"),
    }  # fmt: skip
    others = [_commented(table) for name, table in tables.items() if name != target.name]
    return [
        tables[target.name],
        "# Others, as examples; one that is written here is named in `targets`, above or in a\n"
        "# backbone.\n#\n" + "#\n".join(others),
    ]


def _table(name: str, runtime: str, what: str, more: str = "") -> str:
    header = f"[targets.{name}]"
    return f'{header:<30}# {what}\nruntime = "{runtime}"\n{more}'


def _commented(text: str) -> str:
    return "".join(f"# {line}\n" for line in text.splitlines())


def _backbone(model: Model, profile: Profile | None) -> str:
    key = f"backbones.{model.name}"
    lines = [f"[{key}]", f"onnx = {_text(model.path)}"]
    lines += [f"# input {_safe(str(one))}" for one in model.inputs]
    if profile is None:
        # One input with dimensions is enough: the others are static and in the model.
        one = next(one for one in model.inputs if one.shape)
        lines.append(f"input_name = {_text(one.name)}")
        lines.append(f"expected_input_shape = {list(one.shape)}")
    else:
        lines.append(f"# guessed: {_safe(', '.join(profile.guesses))}")
        lines.append(f"[[{key}.profiles]]")
        for index, which in enumerate(("min", "opt", "max")):
            shapes = ", ".join(
                f"{_key(name)} = {[size[index] for size in sizes]}"
                for name, sizes in profile.sizes.items()
            )
            lines.append(f"{which} = {{ {shapes} }}")
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _text(text: str) -> str:
    """A string as TOML has it: as JSON, which leaves one control character as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _safe(text: str) -> str:
    """A text that stays within its line as a comment."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
