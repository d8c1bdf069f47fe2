"""CUDA's driver library by ctypes: a C stub with its signatures, in the real process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from recordings import compile_library, needs_compiler

from enginery.probing import cuda_driver, cuda_query
from enginery.probing.cuda_driver import CudaDevice, ask, dotted_cuda

# Signatures, attributes and error numbers of cuda.h. The GPU of a Jetson shares the host's memory;
# an IGX Orin can have a second one, which does not (numbers of an RTX 6000 Ada from its data sheet).
LIBCUDA = """
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int cuInit(unsigned flags) {
    const char *how = getenv("STUB_INIT");
    if (how && !strcmp(how, "crash")) abort();
    if (how && !strcmp(how, "hang")) sleep(60);
    return how ? atoi(how) : (flags == 0 ? 0 : 1);
}
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 100 + ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, device == 100 ? "Orin" : "NVIDIA RTX 6000 Ada Generation", length);
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    *bytes = device == 100 ? 64349356032ull : 51527024640ull;
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    if (attribute == 75) *value = 8;
    else if (attribute == 76) *value = device == 100 ? 7 : 9;
    else if (attribute == 18) *value = device == 100;
    else return 1;
    return 0;
}
int cuGetErrorName(int error, const char **name) {
    *name = error == 100 ? "CUDA_ERROR_NO_DEVICE" : error == 999 ? "CUDA_ERROR_UNKNOWN" : NULL;
    return *name ? 0 : 1;
}
int cuCtxCreate_v2(void **context, unsigned flags, int device) { abort(); }
int cuDevicePrimaryCtxRetain(void **context, int device) { abort(); }
"""


@pytest.fixture
def libcuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = compile_library(tmp_path / "lib", "libcuda.so.1", LIBCUDA)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))


@needs_compiler
@pytest.mark.usefixtures("libcuda")
def test_devices_as_cuda_numbers_them() -> None:
    answer = ask()
    assert answer.fault is None
    assert answer.version == 12060
    assert answer.devices == (
        CudaDevice(name="Orin", sm=87, memory_mib=None),
        CudaDevice(name="NVIDIA RTX 6000 Ada Generation", sm=89, memory_mib=49140),
    )


@needs_compiler
@pytest.mark.usefixtures("libcuda")
@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("100", "cuInit fails with CUDA_ERROR_NO_DEVICE (100)"),
        ("999", "cuInit fails with CUDA_ERROR_UNKNOWN (999)"),
        ("7777", "cuInit fails with error (7777)"),
    ],
)
def test_an_error_is_the_fault(monkeypatch: pytest.MonkeyPatch, code: str, fault: str) -> None:
    monkeypatch.setenv("STUB_INIT", code)
    assert ask().fault == fault


@needs_compiler
@pytest.mark.usefixtures("libcuda")
def test_a_crash_or_a_hang_of_the_driver_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_INIT", "crash")
    assert ask().fault == "the process that asked it ended with -6"
    monkeypatch.setenv("STUB_INIT", "hang")
    monkeypatch.setattr(cuda_driver, "_TIMEOUT_S", 0.5)
    assert ask().fault == "it did not answer within 0.5 s"


def test_a_library_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A copy of Python alone: neither LD_LIBRARY_PATH nor the linker's cache has a libcuda there.
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a driver")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert (ask().fault or "").startswith("it cannot be loaded (libcuda.so.1: cannot open")


def test_an_interpreter_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert (ask().fault or "").startswith("it could not be asked ([Errno 2]")


def test_the_query_needs_no_packages() -> None:
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "importtime", cuda_query.__file__],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LD_LIBRARY_PATH": "/nowhere"},
    )
    assert "enginery" not in run.stderr
    assert "msgspec" not in run.stderr


def test_cuda_version_is_dotted() -> None:
    assert [dotted_cuda(version) for version in (11040, 12060, 13000)] == ["11.4", "12.6", "13.0"]
