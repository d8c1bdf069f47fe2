"""NVIDIA's own Python bindings of a TensorRT version, on a machine without TensorRT.

    python tests/contract/bindings.py 10.3                 # a prompt in which `import tensorrt` works
    python tests/contract/bindings.py 11.4 -c "import tensorrt as trt; print(trt.__version__)"
    python tests/contract/bindings.py 10.7 script.py arguments
    python tests/contract/bindings.py 10.7 --stand-ins script.py arguments

The bindings wheels are public and small; the libraries that they load are neither. The bindings
need nine C functions of those to be imported, so empty ones stand in, compiled here. Classes,
enums and docstrings are then the real ones; whatever needs a library (`Builder`, `Runtime`,
`OnnxParser`) cannot be made. With --stand-ins, objects made from the real classes stand in for
those, in child processes too; see `behaviour`, `spec`.

Wheels are downloaded once, for the Python that runs this, into $XDG_CACHE_HOME/enginery-tests.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Release:
    """A release of TensorRT.

    Attributes:
        wheel: Version of its bindings' wheel, which is `tensorrt.__version__`, too.
        library: What its library says of itself, with the build number that wheels leave out up
            to 10.7; that of 10.3 is JetPack 6.2's.
        pythons: The minor versions of Python 3 that have a wheel.
    """

    wheel: str
    library: str
    pythons: range


RELEASES = {
    "10.3": Release("10.3.0", "10.3.0.30", range(10, 13)),
    "10.7": Release("10.7.0", "10.7.0.23", range(10, 13)),
    "10.13": Release("10.13.3.9", "10.13.3.9", range(10, 14)),
    "10.16": Release("10.16.1.11", "10.16.1.11", range(10, 14)),
    "11.0": Release("11.0.0.114", "11.0.0.114", range(10, 14)),
    "11.4": Release("11.4.0.106", "11.4.0.106", range(10, 15)),
}

_LIBRARIES = ("libnvinfer", "libnvonnxparser", "libnvinfer_plugin")
_FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getPluginRegistry",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "initLibNvInferPlugins",
)

# Users import `tensorrt`, and so does Polygraphy.
_ALIAS = "import sys\n\nimport tensorrt_bindings\n\nsys.modules[__name__] = tensorrt_bindings\n"
_STAND_INS = "stand_ins"
_INSTALL = f"""
sys.path.append({str(Path(__file__).parent)!r})
import behaviour

behaviour.install(tensorrt_bindings)
"""


class BindingsError(RuntimeError):
    """The bindings of a version cannot be had here."""


@dataclass(frozen=True)
class Bindings:
    """A folder that holds the bindings of one version and the stubs that they load."""

    version: str
    folder: Path

    def environment(self, *, stand_ins: bool = False, before: str = "") -> Mapping[str, str]:
        """Variables for a process in which `import tensorrt` gives these bindings.

        Args:
            stand_ins: Whether that import also installs stand-ins for what needs a library.
            before: A folder where modules are looked for first.
        """
        folders = (before, str(self.folder / _STAND_INS) if stand_ins else "", str(self.folder))
        return {
            "LD_LIBRARY_PATH": _joined("LD_LIBRARY_PATH", str(self.folder)),
            "PYTHONPATH": _joined("PYTHONPATH", *folders),
        }

    def run(
        self,
        *arguments: str,
        stand_ins: bool = False,
        before: str = "",
        stdin: str = "",
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run this Python with these arguments in such an environment; see `environment`.

        Args:
            arguments: Those of Python.
            stand_ins: See `environment`.
            before: See `environment`.
            stdin: What it reads.
            variables: More for its environment.
        """
        found = self.environment(stand_ins=stand_ins, before=before)
        return subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, **(variables or {}), **found},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def provide(version: str, folder: Path) -> Bindings:
    """Put the bindings of a version, such as "10.3", into an empty folder.

    Raises:
        BindingsError: There is no wheel for this Python, it cannot be downloaded, or the stubs
            cannot be compiled.
    """
    with zipfile.ZipFile(_wheel(version)) as wheel:
        wheel.extractall(folder)
    (folder / "tensorrt.py").write_text(_ALIAS)
    (folder / _STAND_INS).mkdir()
    (folder / _STAND_INS / "tensorrt.py").write_text(_ALIAS + _INSTALL)
    _compile_stubs(folder, RELEASES[version].library)
    return Bindings(version, folder)


@cache
def shared(version: str) -> Bindings:
    """The bindings of a version in a folder of this process, which is removed at its end."""
    folder = tempfile.mkdtemp(prefix=f"tensorrt-{version}-")
    atexit.register(shutil.rmtree, folder)
    return provide(version, Path(folder))


def _wheel(version: str) -> Path:
    full, minors = RELEASES[version].wheel, RELEASES[version].pythons
    if sys.version_info.minor not in minors:
        raise BindingsError(
            f"there are no bindings of TensorRT {full} for Python 3.{sys.version_info.minor}, only "
            f"for 3.{minors[0]} to 3.{minors[-1]}; run this with one of those"
        )
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "enginery-tests"
    kept.mkdir(parents=True, exist_ok=True)
    pattern = f"tensorrt_cu12_bindings-{full}-cp3{sys.version_info.minor}-*.whl"
    if not list(kept.glob(pattern)):
        _download(f"tensorrt-cu12-bindings=={full}", kept)
    return next(kept.glob(pattern))


def _download(requirement: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
             "--only-binary", ":all:", "--dest", temporary, requirement],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        if done.returncode:
            raise BindingsError(f"{requirement} cannot be downloaded: {done.stderr.strip()}")
        for wheel in Path(temporary).iterdir():
            wheel.replace(folder / wheel.name)


def _compile_stubs(folder: Path, version: str) -> None:
    numbers = dict(zip(("Major", "Minor", "Patch", "Build"), version.split("."), strict=True))
    functions = [f"void *{name}(void) {{ return 0; }}" for name in _FUNCTIONS]
    functions += [
        f"int getInferLib{one}Version(void) {{ return {numbers[one]}; }}" for one in numbers
    ]
    source = folder / "stub.c"
    source.write_text("\n".join(functions) + "\n")
    for library in _LIBRARIES:
        # As NVIDIA's packages have them: the file says three numbers, a link to it says one.
        name = f"{library}.so.{numbers['Major']}"
        target = folder / f"{library}.so.{version.rpartition('.')[0]}"
        options = ("-shared", "-fPIC", "-nostdlib", f"-Wl,-soname,{name}")
        command = ["cc", *options, "-o", target, source]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except FileNotFoundError:
            raise BindingsError(
                "there is no C compiler; install one: apt-get install gcc"
            ) from None
        if done.returncode:
            raise BindingsError(f"the stub of {library} does not compile: {done.stderr}")
        (folder / name).symlink_to(target.name)


def _joined(variable: str, *folders: str) -> str:
    return os.pathsep.join(filter(None, (*folders, os.environ.get(variable))))


def main(arguments: list[str]) -> int:
    """Run Python with the bindings of the version that is the first argument."""
    if not arguments or arguments[0] not in RELEASES:
        sys.stderr.write(
            f"usage: bindings.py {{{','.join(RELEASES)}}} [--stand-ins] [arguments of python]\n"
        )
        return 2
    version, *rest = arguments
    stand_ins = rest[:1] == ["--stand-ins"]
    environment = {**os.environ, **shared(version).environment(stand_ins=stand_ins)}
    command = [sys.executable, *rest[stand_ins:]]
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
