"""TensorRT's version from Python's and Debian's metadata, from file names, and from a library."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from recordings import compile_library, needs_compiler, recorded

from enginery.installed import installed_version
from enginery.probing.root import Root
from enginery.probing.tensorrt_library import tensorrt_version

LIBNVINFER = """
int getInferLibMajorVersion(void) { return 10; }
int getInferLibMinorVersion(void) { return 3; }
int getInferLibPatchVersion(void) { return 0; }
int getInferLibBuildVersion(void) { return 26; }
"""

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts metadata of a distribution where only this test finds them; there are no others."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.setattr(
        sys, "path", [str(site), *(path for path in sys.path if "site-packages" not in path)]
    )
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)

    def write(name: str, version: str) -> None:
        folder = site / f"{name}-{version}.dist-info"
        folder.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (folder / "METADATA").write_text(text, encoding="utf-8")
        installed_version.cache_clear()

    installed_version.cache_clear()
    yield write
    installed_version.cache_clear()


@pytest.mark.usefixtures("install")
def test_nothing_is_none(tmp_path: Path) -> None:
    assert tensorrt_version(root=Root(tmp_path)) is None


@pytest.mark.usefixtures("install")
@pytest.mark.parametrize(
    ("recording", "version"), [("orin-nano-jetpack6", "10.3.0.30"), ("agx-thor", "10.13.3.9")]
)
def test_debian_has_the_build_number(recording: str, version: str) -> None:
    assert tensorrt_version(root=recorded(recording)) == version


def test_python_on_a_jetson_is_debian_s(install: Install) -> None:
    # rbonghi/jetson_stats issue 603 has 10.3.0.30 where Python's metadata say 10.3.0.
    install("tensorrt", "10.3.0")
    assert tensorrt_version(root=recorded("orin-nano-jetpack6")) == "10.3.0.30"


def test_python_s_own_comes_before_debian_s(install: Install) -> None:
    install("tensorrt_cu12", "10.13.3.9")
    assert tensorrt_version(root=recorded("orin-nano-jetpack6")) == "10.13.3.9"


@pytest.mark.parametrize("version", ["10.13.3.9.post1", "10.14.1.48.post1"])
def test_a_post_release_is_another_wheel_of_the_same_library(
    install: Install, version: str
) -> None:
    install("tensorrt_cu13_libs", version)  # numbers that PyPI has of tensorrt-cu12-bindings
    assert tensorrt_version(root=recorded("gb10")) == version.removesuffix(".post1")


def test_another_number_of_debian_s_is_not_python_s(install: Install) -> None:
    install("tensorrt", "10.7.0.post1")
    assert tensorrt_version(root=recorded("orin-nano-jetpack6")) == "10.7.0"


def test_the_libraries_are_what_runs(install: Install) -> None:
    # tensorrt 10.0.1 drew in libraries of 10.1.0: NVIDIA/TensorRT, as told at
    # blog.gitcode.com/3103e2dd2e5f0bbc7c9a8cb4776b5529.html.
    install("tensorrt", "10.0.1")
    install("tensorrt_cu12", "10.1.0")
    install("tensorrt_cu12_libs", "10.1.0")
    assert tensorrt_version(root=recorded("gb10")) == "10.1.0"


@pytest.mark.parametrize("name", ["tensorrt_rtx_cu13", "tensorrt_cu12_bindings", "tensorrt_lean"])
def test_other_products_and_parts_are_none(install: Install, name: str) -> None:
    install(name, "10.13.3.9")
    assert tensorrt_version(root=recorded("gb10")) is None


def dpkg(root: Path, *stanzas: str) -> Root:
    (root / "var/lib/dpkg").mkdir(parents=True)
    (root / "var/lib/dpkg/status").write_text("\n\n".join(stanzas), encoding="utf-8")
    return Root(root)


@pytest.mark.usefixtures("install")
def test_dpkg_is_read_with_care(tmp_path: Path) -> None:
    installed = "Status: install ok installed"
    root = dpkg(
        tmp_path,
        "Package: libnvinfer8\nStatus: deinstall ok config-files\nVersion: 8.5.2-1+cuda11.4",
        f"Package: libnvinfer9\n{installed}\nDescription: text\n Version: 1.2.3.4\nVersion: 1:9.0.0.1-1",
        f"Package: libnvinfer-dev\n{installed}\nVersion: 99.0.0.1-1",
        f"Package: libnvinfer10\n{installed}\nVersion: 10.16.2.10-1+cuda13.2",
        "Package: libnvinfer11\nStatus: install ok half-configured\nVersion: 11.0.0.1-1",
    )
    assert tensorrt_version(root=root) == "10.16.2.10"


@pytest.mark.usefixtures("install")
def test_a_held_package_is_installed(tmp_path: Path) -> None:
    root = dpkg(tmp_path, "Package: libnvinfer10\nStatus: hold ok installed\nVersion: 10.3.0.30-1")
    assert tensorrt_version(root=root) == "10.3.0.30"


@pytest.mark.usefixtures("install")
@pytest.mark.parametrize(
    "content", ["", "\n", "Package: libnvinfer10", "Package: libnvinfer10\n\n"]
)
def test_a_damaged_status_is_no_answer(tmp_path: Path, content: str) -> None:
    assert tensorrt_version(root=dpkg(tmp_path, content)) is None


@pytest.mark.usefixtures("install")
def test_file_name_of_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Root(tmp_path)
    folder = root.at("/usr/local/tensorrt/lib")
    folder.mkdir(parents=True)
    (folder / "libnvinfer.so.10.7.0").touch()
    (folder / "libnvinfer.so.10").symlink_to("libnvinfer.so.10.7.0")
    assert tensorrt_version(root=root) == "10.7.0"

    own = root.at("/home/me/TensorRT-11.0.0.1/lib")
    own.mkdir(parents=True)
    (own / "libnvinfer.so.11.0.0").touch()
    (own / "libnvinfer.so.11").symlink_to("libnvinfer.so.11.0.0")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere:/home/me/TensorRT-11.0.0.1/lib")
    assert tensorrt_version(root=root) == "11.0.0"


@needs_compiler
def test_the_library_is_asked_only_on_request(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("tensorrt_cu12_libs", "10.3.0")
    library = compile_library(
        tmp_path / "site-packages/tensorrt_libs", "libnvinfer.so.10", LIBNVINFER
    )
    assert library.with_name("__init__.py").write_text("raise AssertionError('imported')")
    root = Root(tmp_path / "empty")
    assert tensorrt_version(root=root) == "10.3.0"
    assert tensorrt_version(root=root, ask_library=True) == "10.3.0.26"
    assert "tensorrt_libs" not in sys.modules

    library.write_bytes(b"no library")
    assert tensorrt_version(root=root, ask_library=True) == "10.3.0"


@needs_compiler
def test_a_library_of_another_version_is_not_believed(install: Install, tmp_path: Path) -> None:
    install("tensorrt_cu12_libs", "10.4.0")
    compile_library(tmp_path / "site-packages/tensorrt_libs", "libnvinfer.so.10", LIBNVINFER)
    assert tensorrt_version(root=Root(tmp_path / "empty"), ask_library=True) == "10.4.0"


def test_a_library_of_nvidia_s_answers_the_query() -> None:
    # TensorRT's own libraries cannot be had here; TensorRT-RTX's exports the same four functions.
    import subprocess

    from enginery.probing import tensorrt_library

    spec = importlib.util.find_spec("tensorrt_rtx_libs")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("tensorrt_rtx_cu13 is not installed")
    library = Path(spec.submodule_search_locations[0]) / "libtensorrt_rtx.so.1"
    query = Path(tensorrt_library.__file__).with_name("tensorrt_query.py")
    run = subprocess.run(
        [sys.executable, "-I", "-S", query, library], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == installed_version("tensorrt_rtx_cu13_libs")
