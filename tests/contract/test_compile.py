"""All of a build, with our own processes, locks and files; only TensorRT is a stand-in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from behaviour import CACHE, CALLS, ENGINE, SETTINGS
from bindings import RELEASES, shared

from enginery import read_verified

pytestmark = pytest.mark.slow

SCRIPT = str(Path(__file__).with_name("compile_twice.py"))


def compiled(version: str, folder: Path, **settings: Any) -> Any:
    """What `compile_twice` made of a small model on a Jetson Orin with that TensorRT."""
    onnx_models.write_small(folder / "model.onnx", seed=1)
    variables = {
        "ENGINERY_HOST": f"sm=87 jetpack=6.2 trt={RELEASES[version].library}",
        "XDG_CACHE_HOME": str(folder / "cache"),
        CALLS: str(folder / "calls"),
        SETTINGS: json.dumps(settings),
    }
    arguments = (SCRIPT, str(folder / "model.onnx"), str(folder / "engines"))
    return shared(version).run(*arguments, stand_ins=True, variables=variables)


@pytest.mark.parametrize("version", RELEASES)
def test_an_engine_is_built_once_and_then_believed(version: str, tmp_path: Path) -> None:
    done = compiled(version, tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    name = f"small_sm87_jp6.2_trt{RELEASES[version].library}_fp32.engine"
    assert found["outcomes"] == [["built", name], ["reused", name]]
    assert RELEASES[version].library.startswith(found["installed"])
    assert read_verified(tmp_path / "engines" / name) == ENGINE + b'["input"]'
    calls = [json.loads(line)[:2] for line in (tmp_path / "calls").read_text().splitlines()]
    assert calls.count(["Builder", "build_serialized_network"]) == 1
    assert calls.count(["Runtime", "deserialize_cuda_engine"]) == 1
    (cache,) = (tmp_path / "cache" / "enginery" / "timing").iterdir()
    assert cache.read_bytes().endswith(b"\n" + CACHE)
    assert {"sm87", f"trt{RELEASES[version].library}"} < set(cache.stem.split("_"))


@pytest.mark.parametrize("setting", ["build_error", "load_error"])
def test_what_is_not_built_or_does_not_load_is_not_published(setting: str, tmp_path: Path) -> None:
    done = compiled("11.4", tmp_path, **{setting: "no such tactic"})
    assert "EngineBuildError" in done.stderr
    assert "no such tactic" in done.stderr
    assert not list((tmp_path / "engines").glob("*.engine*"))
