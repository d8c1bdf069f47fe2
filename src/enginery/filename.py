"""The hardware-tagged name of an engine, written and read back.

    <model>_sm<SM>[-<SM>...]_<jp<JetPack>|nojp>_trt<TensorRT>[_<mode>...]_<precision>.engine

    resnet50_sm86-89-120_nojp_trt1.7.1.116_fp16.engine

A runtime that is not TensorRT has its own letters before its version, and an engine for a CPU has
`cpu-<level>` in the place of the compute capabilities.

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
MODES = ("hc-ampere-plus", "hc-same-compute-capability", "vc", "dla")
"""What an engine's name may say of how it was built, in this order; see `BuilderOptions.modes`."""

TENSORRT = "trt"

_NAME = (
    r"(?P<model>.+)_(?:sm(?P<sm>[0-9]+(?:-[0-9]+)*)|cpu-(?P<cpu>[^_]+))"
    r"_(?:nojp|jp(?P<jetpack>[^_]+))"
    r"_(?:trt(?P<trt>[^_]+)|(?P<letters>[a-z]{2,8})(?P<version>[0-9][^_]*))"
    rf"(?P<modes>(?:_(?:{'|'.join(MODES)}))*)_(?P<precision>[a-z0-9]+)\.engine"
)


class EngineTag(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine's name says.

    Attributes:
        model_name: The backbone's name.
        sm: Compute capability, or several as a sorted tuple; empty for a CPU.
        jetpack: JetPack version, or None.
        trt: TensorRT version with its build number, or the version of another runtime.
        precision: The precision that the network computes in.
        cpu: Architecture and feature level of a CPU, or None.
        modes: Compatibility modes and device, of `MODES`.
        version_tag: Letters before the version: "trt", or those of another runtime.
    """

    model_name: str
    sm: Sm
    jetpack: str | None
    trt: str
    precision: PrecisionMode
    cpu: str | None = None
    modes: tuple[str, ...] = ()
    version_tag: str = TENSORRT


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
        cpu: str | None = None,
        modes: Iterable[str] = (),
        version_tag: str = TENSORRT,
    ) -> str:
        """The file name of an engine; the parts are those of `EngineTag`.

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
        name = "_".join(
            (
                fold(model_name),
                _hardware(sm, cpu),
                "nojp" if jetpack is None else "jp" + fold(jetpack),
                _letters(version_tag, trt) + fold(trt),
                *_ordered(modes),
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
                sm=() if match["sm"] is None else canonical_sm(map(int, match["sm"].split("-"))),
                jetpack=None if match["jetpack"] is None else _unfold(match["jetpack"]),
                trt=_unfold(match["trt"] or match["version"]),
                precision=PrecisionMode(match["precision"]),
                cpu=match["cpu"],
                modes=tuple(match["modes"].split("_")[1:]),
                version_tag=match["letters"] or TENSORRT,
            )
            canonical = EngineFilenameSchema.build(**msgspec.structs.asdict(tag))
        except ValueError as error:
            raise ValueError(f"{filename!r} is not the name of an engine: {error}") from error
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


def _hardware(sm: int | Iterable[int], cpu: str | None) -> str:
    if cpu is None:
        canonical = canonical_sm(sm)
        return "sm" + "-".join(map(str, (canonical,) if isinstance(canonical, int) else canonical))
    if not re.fullmatch(r"[a-z0-9]+([.-][a-z0-9]+)*", cpu) or sm:
        raise ValueError(f"cpu {cpu!r} is no CPU's level, or there is an SM too; write x86-64-v3")
    return f"cpu-{cpu}"


def _letters(version_tag: str, version: str) -> str:
    if version_tag != TENSORRT and not (
        re.fullmatch(r"(?!trt)[a-z]{2,8}", version_tag) and version[:1].isdigit()
    ):
        raise ValueError(
            f"{version_tag!r} before {version!r} can be read in two ways; use two to eight "
            "lower-case letters, not beginning with trt, and a version that begins with a digit"
        )
    return version_tag


def _ordered(modes: Iterable[str]) -> list[str]:
    given = list(modes)
    if unknown := set(given).difference(MODES):
        raise ValueError(f"there is no mode {sorted(unknown)[0]!r}; known are {', '.join(MODES)}")
    return sorted(set(given), key=MODES.index)


def fold(text: str) -> str:
    """Upper-case letters as `+` and lower case, `+` as `++`: one name per spelling in any case."""
    return text.translate(_FOLDED)


def _unfold(text: str) -> str:
    if re.search(r"[A-Z]", text) or not re.fullmatch(r"(?:[^+]|\+[a-z+])*", text):
        raise ValueError(f"{text!r} is misspelt: '+' stands before a lower-case letter or '+'")
    return re.sub(r"\+([a-z+])", lambda match: match[1].upper(), text)
