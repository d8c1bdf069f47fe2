"""The engine's name: build and parse are inverse, and no two tags share a name in any case."""

from __future__ import annotations

import string
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginery import EngineFilenameSchema, EngineTag, PrecisionMode
from enginery.filename import MODES

TAG: dict[str, Any] = {
    "model_name": "vit",
    "sm": 87,
    "jetpack": "6.2",
    "trt": "10.3.0.30",
    "precision": PrecisionMode.FP16,
}
NAME = "vit_sm87_jp6.2_trt10.3.0.30_fp16.engine"

ALNUM = string.ascii_letters + string.digits
ONE_SM = st.integers(10, 999)
SMS = st.one_of(ONE_SM, st.lists(ONE_SM, min_size=1, max_size=4))
PRECISIONS = st.sampled_from(PrecisionMode)
# Parts of names that look like the parts that follow the model's name.
LOOKALIKES = st.sampled_from(
    [
        "_sm86",
        "_sm86-89",
        "_cpu-v3",
        "_nojp",
        "_jp6.2",
        "_trt1",
        "_ort1",
        "_vc",
        "_dla",
        "_fp16",
        ".engine",
        "_",
        "+",
        "++",
        "-",
        "A",
    ]
)


def texts(alphabet: str, size: int) -> st.SearchStrategy[str]:
    return st.builds(
        str.__add__, st.sampled_from(ALNUM), st.text(st.sampled_from(alphabet), max_size=size)
    )


MODELS = st.one_of(
    texts(ALNUM + "._+-", 30),
    st.builds(lambda parts: "m" + "".join(parts), st.lists(LOOKALIKES, max_size=5)),
    st.just("m_sm86_nojp_trt1_fp16"),
    st.just("m_sm86_nojp_trt1_fp16.engine"),
)
VERSIONS = texts(ALNUM + ".+-", 11)


def tags(
    models: st.SearchStrategy[str], versions: st.SearchStrategy[str]
) -> st.SearchStrategy[dict[str, Any]]:
    base = st.fixed_dictionaries(
        {
            "model_name": models,
            "sm": SMS,
            "jetpack": st.none() | versions,
            "trt": versions,
            "precision": PRECISIONS,
            "modes": st.lists(st.sampled_from(MODES), unique=True),
        }
    )
    return st.builds(dict.__or__, base, st.just({}) | CPUS | OTHERS)


LEVELS = st.from_regex(r"[a-z0-9]{1,4}(-[a-z0-9]{1,3}){0,2}", fullmatch=True)
CPUS = st.fixed_dictionaries({"cpu": LEVELS, "sm": st.just(())})
OTHERS = st.fixed_dictionaries(
    {
        "version_tag": st.from_regex(r"[a-z]{2,8}", fullmatch=True).filter(
            lambda tag: not tag.startswith("trt")
        ),
        "trt": texts(ALNUM + ".+-", 8).map("1".__add__),
    }
)


# So few characters that many tags differ in case and folding alone.
NEAR = tags(
    st.text(st.sampled_from("aA+"), max_size=3).map("a".__add__),
    st.text(st.sampled_from("aA+"), max_size=1).map("1".__add__),
).map(lambda tag: {**tag, "sm": () if "cpu" in tag else 86, "precision": PrecisionMode.FP16})


def canonical(tag: dict[str, Any]) -> EngineTag:
    sms = sorted({tag["sm"]} if isinstance(tag["sm"], int) else set(tag["sm"]))
    modes = tuple(mode for mode in MODES if mode in tag.get("modes", ()))
    return EngineTag(**{**tag, "sm": sms[0] if len(sms) == 1 else tuple(sms), "modes": modes})


def test_an_example() -> None:
    assert EngineFilenameSchema.build(**TAG) == NAME
    assert EngineFilenameSchema.parse(NAME) == EngineTag(**TAG)


def test_an_example_with_several_capabilities_and_upper_case() -> None:
    tag = {**TAG, "model_name": "ResNet+50", "sm": (120, 86), "jetpack": None}
    name = "+res+net++50_sm86-120_nojp_trt10.3.0.30_fp16.engine"
    assert EngineFilenameSchema.build(**tag) == name
    assert EngineFilenameSchema.parse(name) == canonical(tag)


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (
            {"modes": ("vc", "hc-ampere-plus")},
            "vit_sm87_jp6.2_trt10.3.0.30_hc-ampere-plus_vc_fp16.engine",
        ),
        ({"modes": ["dla"]}, "vit_sm87_jp6.2_trt10.3.0.30_dla_fp16.engine"),
        (
            {"sm": (), "jetpack": None, "cpu": "x86-64-v3", "version_tag": "ort", "trt": "1.26.0"},
            "vit_cpu-x86-64-v3_nojp_ort1.26.0_fp16.engine",
        ),
    ],
)
def test_examples_of_modes_and_of_a_cpu(parts: dict[str, Any], name: str) -> None:
    assert EngineFilenameSchema.build(**{**TAG, **parts}) == name
    assert EngineFilenameSchema.parse(name) == canonical({**TAG, **parts})


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"modes": ["fast"]}, "no mode 'fast'; known are hc-ampere-plus"),
        ({"cpu": "x86_64", "sm": ()}, "cpu 'x86_64' is no CPU's level"),
        ({"cpu": "x86-64"}, "there is an SM too"),
        ({"version_tag": "trtx"}, "can be read in two ways"),
        ({"version_tag": "ORT"}, "can be read in two ways"),
        ({"version_tag": "ort", "trt": "v1"}, "can be read in two ways"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(parts: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EngineFilenameSchema.build(**{**TAG, **parts})


@given(tags(MODELS, VERSIONS))
@settings(deadline=None)
def test_parse_is_the_inverse_of_build(tag: dict[str, Any]) -> None:
    assert EngineFilenameSchema.parse(EngineFilenameSchema.build(**tag)) == canonical(tag)


@given(st.one_of(st.tuples(NEAR, NEAR), st.tuples(tags(MODELS, VERSIONS), tags(MODELS, VERSIONS))))
@settings(deadline=None, max_examples=300)
def test_two_tags_never_share_a_name_in_any_case(pair: tuple[dict[str, Any], ...]) -> None:
    one, two = pair
    names = [EngineFilenameSchema.build(**tag).casefold() for tag in pair]
    assert (names[0] == names[1]) == (canonical(one) == canonical(two))


@given(
    st.lists(ONE_SM, min_size=1, max_size=5).flatmap(
        lambda s: st.tuples(st.just(s), st.permutations(s))
    )
)
@settings(deadline=None)
def test_order_and_repetition_of_capabilities_do_not_matter(
    sms: tuple[list[int], list[int]],
) -> None:
    one, two = sms
    name = EngineFilenameSchema.build(**{**TAG, "sm": one})
    assert name == EngineFilenameSchema.build(**{**TAG, "sm": two})
    assert name == EngineFilenameSchema.build(**{**TAG, "sm": set(one)})
    assert name == EngineFilenameSchema.build(**{**TAG, "sm": iter(one + one)})


@given(mode=PRECISIONS)
def test_precision_may_be_given_by_its_value(mode: PrecisionMode) -> None:
    by_mode = EngineFilenameSchema.build(**{**TAG, "precision": mode})
    assert by_mode == EngineFilenameSchema.build(**{**TAG, "precision": mode.value})
    assert EngineFilenameSchema.parse(by_mode).precision is mode


@pytest.mark.parametrize(
    "name",
    ["", ".hidden", "-x", "_x", "+x", "..", "a b", "a/b", "a\\b", "a\n", "a\0", "ü", "a:b", "a*"],
)
def test_unsafe_model_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"use letters, digits, .* begin with a letter or digit"):
        EngineFilenameSchema.build(**{**TAG, "model_name": name})


@pytest.mark.parametrize("what", ["jetpack", "trt"])
@pytest.mark.parametrize("version", ["", "6_2", "6/2", " 6", ".6", "6.2\n", "6 2", "ü"])
def test_unsafe_versions_are_refused(what: str, version: str) -> None:
    with pytest.raises(ValueError, match=f"{what} .* is no version; write one such as"):
        EngineFilenameSchema.build(**{**TAG, what: version})


@pytest.mark.parametrize("sm", [9, 0, -86, 1000, True, 8.6, None, [86, 8.6], [True], "86", ["86"]])
def test_what_is_no_capability_is_refused(sm: Any) -> None:
    with pytest.raises(ValueError, match=r"is no compute capability; write 86 for 8\.6"):
        EngineFilenameSchema.build(**{**TAG, "sm": sm})


def test_no_capability_is_refused() -> None:
    with pytest.raises(ValueError, match="no compute capability is given; write one such as 86"):
        EngineFilenameSchema.build(**{**TAG, "sm": ()})


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="fp17"):
        EngineFilenameSchema.build(**{**TAG, "precision": "fp17"})


def test_a_name_too_long_is_refused() -> None:
    longest = "m" * (200 - len(NAME) + len("vit"))
    assert len(EngineFilenameSchema.build(**{**TAG, "model_name": longest})) == 200
    with pytest.raises(ValueError, match="shorten the name"):
        EngineFilenameSchema.build(**{**TAG, "model_name": longest + "m"})


@pytest.mark.parametrize(
    "name",
    [
        "",
        "vit.engine",
        "Vit_sm87_jp6.2_trt10.3.0.30_fp16.engine",
        "vit_SM87_jp6.2_trt10.3.0.30_fp16.engine",
        "vit_sm87_jp6.2_trt10.3.0.30_FP16.engine",
        "vit_sm87_jp6.2_trt10.3.0.30_fp17.engine",
        "vit_sm87_jp6.2_trt10.3.0.30.engine",
        "vit_sm87_trt10.3.0.30_fp16.engine",
        "vit_sm87_jp_trt10.3.0.30_fp16.engine",
        "vit_sm87_jp6.2_trt_fp16.engine",
        "vit_sm087_jp6.2_trt10.3.0.30_fp16.engine",
        "vit_sm89-86_nojp_trt10.3.0.30_fp16.engine",
        "vit_sm86-86_nojp_trt10.3.0.30_fp16.engine",
        "vit_sm86-_nojp_trt10.3.0.30_fp16.engine",
        "vit_sm9_nojp_trt10.3.0.30_fp16.engine",
        "vit_sm\u0668\u0667_nojp_trt10.3.0.30_fp16.engine",
        "vit_sm" + "8" * 5000 + "_nojp_trt10.3.0.30_fp16.engine",
        "_sm87_jp6.2_trt10.3.0.30_fp16.engine",
        "v+_sm87_jp6.2_trt10.3.0.30_fp16.engine",
        "v+1_sm87_jp6.2_trt10.3.0.30_fp16.engine",
        "vit_sm87_jp6.2_trt10.3.0.30_fp16.engine\n",
        "vit_sm87_jp6.2_trt10.3.0.30_fp16.engine.sha256",
        "engines/vit_sm87_jp6.2_trt10.3.0.30_fp16.engine",
        "m" * 200 + NAME,
    ],
)
def test_what_build_never_writes_is_refused(name: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own words
        EngineFilenameSchema.parse(name)


@given(
    tag=NEAR | tags(MODELS, VERSIONS),
    cut=st.tuples(st.integers(0, 200), st.integers(0, 3)),
    put=st.text(st.sampled_from("aA+_-.0z\nsmjpt"), max_size=3),
)
@settings(deadline=None, max_examples=300)
def test_whatever_is_parsed_is_what_build_writes(
    tag: dict[str, Any], cut: tuple[int, int], put: str
) -> None:
    name = EngineFilenameSchema.build(**tag)
    misspelt = name[: cut[0]] + put + name[sum(cut) :]
    try:
        parsed = EngineFilenameSchema.parse(misspelt)
    except ValueError:
        assert misspelt != name
    else:
        assert EngineFilenameSchema.build(**msgspec.structs.asdict(parsed)) == misspelt
