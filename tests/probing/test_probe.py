"""The whole probe: on this machine, on recorded ones, and through real ctypes with stub drivers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from recordings import compile_library, needs_compiler, recorded

from enginery.errors import HostError
from enginery.host import Host
from enginery.probing import cpu, discrete, probe
from enginery.probing.machine import probed
from enginery.probing.root import HERE, Root

HAS_DRIVER = any(map(HERE.exists, discrete._SIGNS))

# Types and names of nvml.h. An A100 with an instance of influxdata/telegraf issue 5812 in the second
# of its places.
LIBNVML = """
#include <string.h>
typedef struct { unsigned long long total, free, used; } Memory;
static int device, instance;
static int text(char *to, unsigned size, const char *what) { strncpy(to, what, size); return 0; }
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *to, unsigned size) { return text(to, size, "535.216.01"); }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12020; return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = &device; return 0; }
int nvmlDeviceGetName(void *handle, char *to, unsigned size) {
    return text(to, size, "NVIDIA A100-SXM4-80GB");
}
int nvmlDeviceGetUUID(void *handle, char *to, unsigned size) {
    return text(to, size, handle == &device ? "GPU-513536b6-7d19-9063-b049-1e69664bb298"
                                            : "MIG-ce861fb0-a248-58ce-a9a8-f9adbc22a66a");
}
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    *major = 8; *minor = 0; return 0;
}
int nvmlDeviceGetMemoryInfo(void *handle, Memory *memory) { memory->total = 85899345920ull; return 0; }
int nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *later) { *now = *later = 1; return 0; }
int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) { *count = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned place, void **found) {
    if (place != 1) return 6; /* NVML_ERROR_NOT_FOUND */
    *found = &instance;
    return 0;
}
"""

FRESH = """
import sys
from enginery.probing import probe
host = probe()
wanted = ("tensorrt", "tensorrt_rtx", "tensorrt_bindings", "onnx", "onnxruntime", "numpy", "pynvml", "ctypes")
print([name for name in wanted if name in sys.modules])
"""

STUBBED = """
import sys
from pathlib import Path
from enginery.probing.machine import probed
from enginery.probing.root import Root
print(probed(Root(Path(sys.argv[1])), machine="x86_64", environ={}).gpus)
"""


def test_this_machine_answers_clearly() -> None:
    host = probed()
    assert host.source == "probed"
    assert host.cpu == cpu.level()
    if HAS_DRIVER:
        assert host.driver or host.remarks
    else:
        assert host.gpus == ()
        assert "there is no NVIDIA driver: install it where there is a GPU" in host.remarks[0]
        assert "without a GPU" in str(host)
        with pytest.raises(HostError, match=r"no GPU was found: .*there is no NVIDIA driver"):
            host.sm()


def test_it_is_probed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENGINERY_HOST", raising=False)
    assert probe() is probe()


@pytest.mark.skipif(HAS_DRIVER, reason="this machine has a driver, so NVML is asked")
def test_without_a_driver_nothing_heavy_is_imported() -> None:
    environ = {key: value for key, value in os.environ.items() if key != "ENGINERY_HOST"}
    run = subprocess.run(
        [sys.executable, "-c", FRESH], capture_output=True, text=True, check=True, env=environ
    )
    assert run.stdout.strip() == "[]"


def test_a_recorded_jetson_as_a_whole() -> None:
    host = probed(recorded("orin-nano-jetpack6"), machine="aarch64", environ={})
    assert host == Host(
        source="probed",
        cpu="aarch64-dotprod-fp16",
        gpus=host.gpus,
        board="NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        l4t="36.4.3",
        jetpack="6.2",
        trt="10.3.0.30",
        remarks=host.remarks,
    )
    assert host.sms == (87,)
    assert str(host.capabilities()) == "SM 8.7, JetPack 6.2, TensorRT 10.3.0.30"


def test_a_version_without_its_build_number_is_remarked_on(tmp_path: Path) -> None:
    folder = Root(tmp_path).at("/usr/lib/x86_64-linux-gnu")
    folder.mkdir(parents=True)
    (folder / "libnvinfer.so.10.3.0").touch()
    (folder / "libnvinfer.so.10").symlink_to("libnvinfer.so.10.3.0")
    host = probed(Root(tmp_path), machine="x86_64", environ={})
    assert host.trt == "10.3.0"
    assert "build number of TensorRT 10.3.0 is in no metadata" in host.remarks[-1]


@needs_compiler
def test_nvml_through_the_real_package(tmp_path: Path) -> None:
    library = compile_library(tmp_path / "usr/lib/x86_64-linux-gnu", "libnvidia-ml.so.1", LIBNVML)
    run = subprocess.run(
        [sys.executable, "-c", STUBBED, tmp_path],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LD_LIBRARY_PATH": str(library.parent)},
    )
    assert run.stdout.strip() == (
        "(Gpu(index=0, name='NVIDIA A100-SXM4-80GB', sm=80, "
        "uuid='GPU-513536b6-7d19-9063-b049-1e69664bb298', memory_mib=81920, "
        "mig=('MIG-ce861fb0-a248-58ce-a9a8-f9adbc22a66a',)),)"
    )


def test_files_that_are_no_files_are_no_answer(tmp_path: Path) -> None:
    root = Root(tmp_path)
    for name in ("/etc/nv_tegra_release", "/proc/device-tree/compatible", "/var/lib/dpkg/status"):
        root.at(name).mkdir(parents=True)
    os.mkfifo(root.at("/proc/device-tree/model"))  # whose reader would wait for ever
    host = probed(root, machine="aarch64", environ={})
    assert (host.cpu, host.board, host.gpus) == ("aarch64", None, ())
