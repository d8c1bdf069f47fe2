"""The hardware-tagged name of an engine, written and read back.

    <model>_sm<SM>[-<SM>...]_<jp<JetPack>|nojp>_trt<TensorRT>_<precision>.engine

    resnet50_sm86-89-120_nojp_trt1.7.1.116_fp16.engine

The name is read from the right, so a model's name may hold underscores. Upper-case letters are
written as `+` and the lower-case letter, and `+` as `++`: two tags that differ only in case
never share a path on a case-insensitive file system. docs/formats.md is the specification.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

import msgspec

from .config import PrecisionMode
from .hardware import Sm, canonical_sm

SUFFIX = ".engine"

# Room for `.provenance.json` and for a temporary file's affixes within the usual 255 bytes.
MAX_LENGTH = 200

_FIRST = frozenset(string.ascii_letters + string.digits)
_IN_VERSION = _FIRST | set(".+-")
_IN_MODEL = _IN_VERSION | {"_"}
_FOLDED = {ord(char): "+" + char.lower() for char in string.ascii_uppercase + "+"}
_NAME = (
    r"(?P<model>.+)_sm(?P<sm>[0-9]+(?:-[0-9]+)*)_(?:nojp|jp(?P<jetpack>[^_]+))"
    r"_trt(?P<trt>[^_]+)_(?P<precision>[a-z0-9]+)\.engine"
)


class EngineTag(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine's name says.

    Attributes:
        model_name: The backbone's name.
        sm: Compute capability, or several as a sorted tuple.
        jetpack: JetPack version, or None.
        trt: TensorRT version with its build number.
        precision: The precision that the network computes in.
    """

    model_name: str
    sm: Sm
    jetpack: str | None
    trt: str
    precision: PrecisionMode


class EngineFilenameSchema:
    """The one place that knows how an engine's file is called."""

    @staticmethod
    def build(
        *,
        model_name: str,
        sm: int | Iterable[int],
        jetpack: str | None,
        trt: str,
        precision: PrecisionMode | str,
    ) -> str:
        """The file name of an engine.

        >>> EngineFilenameSchema.build(
        ...     model_name="vit", sm=87, jetpack="6.2", trt="10.3.0.30", precision="fp16"
        ... )
        'vit_sm87_jp6.2_trt10.3.0.30_fp16.engine'

        Raises:
            ValueError: A part cannot stand in a file name; the message says which and why.
        """
        check_model_name(model_name)
        if jetpack is not None:
            check_version("jetpack", jetpack)
        check_version("trt", trt)
        canonical = canonical_sm(sm)
        sms = (canonical,) if isinstance(canonical, int) else canonical
        name = "_".join(
            (
                fold(model_name),
                "sm" + "-".join(map(str, sms)),
                "nojp" if jetpack is None else "jp" + fold(jetpack),
                "trt" + fold(trt),
                PrecisionMode(precision).value,
            )
        )
        if len(name) + len(SUFFIX) > MAX_LENGTH:
            raise ValueError(f"{name}{SUFFIX} is longer than {MAX_LENGTH} bytes; shorten the name")
        return name + SUFFIX

    @staticmethod
    def parse(filename: str) -> EngineTag:
        """The tag that a file name says; the inverse of `build`.

        Raises:
            ValueError: The name is not one that `build` writes.
        """
        match = re.fullmatch(_NAME, filename)
        if match is None:
            raise ValueError(f"{filename!r} is not the name of an engine")
        try:
            tag = EngineTag(
                model_name=_unfold(match["model"]),
                sm=canonical_sm(map(int, match["sm"].split("-"))),
                jetpack=None if match["jetpack"] is None else _unfold(match["jetpack"]),
                trt=_unfold(match["trt"]),
                precision=PrecisionMode(match["precision"]),
            )
        except ValueError as error:
            raise ValueError(f"{filename!r} is not the name of an engine: {error}") from error
        canonical = EngineFilenameSchema.build(
            model_name=tag.model_name,
            sm=tag.sm,
            jetpack=tag.jetpack,
            trt=tag.trt,
            precision=tag.precision,
        )
        if canonical != filename:
            raise ValueError(f"{filename!r} is not the name of an engine; write {canonical!r}")
        return tag


def check_model_name(name: str) -> None:
    """Raise ValueError, with the remedy, unless the name can stand in a file name."""
    if name[:1] not in _FIRST or not _IN_MODEL.issuperset(name):
        raise ValueError(
            f"{name!r} is no safe file name; use letters, digits, '.', '_', '+' and '-', "
            "and begin with a letter or digit"
        )


def check_version(what: str, value: str) -> None:
    """Raise ValueError, with the remedy, unless the version can stand in a file name."""
    if value[:1] not in _FIRST or not _IN_VERSION.issuperset(value):
        raise ValueError(f"{what} {value!r} is no version; write one such as 6.2 or 10.3.0.30")


def fold(text: str) -> str:
    """Upper-case letters as `+` and lower case, `+` as `++`: one name per spelling in any case."""
    return text.translate(_FOLDED)


def _unfold(text: str) -> str:
    if re.search(r"[A-Z]", text) or not re.fullmatch(r"(?:[^+]|\+[a-z+])*", text):
        raise ValueError(f"{text!r} is misspelt: '+' stands before a lower-case letter or '+'")
    return re.sub(r"\+([a-z+])", lambda match: match[1].upper(), text)
