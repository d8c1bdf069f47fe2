"""What CUDA's driver library says of the GPUs, asked in a process of its own.

cuInit creates no context, but CUDA cannot be used in what its process forks afterwards (PyTorch's
documentation, "Poison fork in multiprocessing"), and doit forks. A driver that hangs or crashes
takes that process with it, not ours.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

_TIMEOUT_S = 30


class CudaDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device as CUDA numbers it.

    Attributes:
        name: What the driver calls it.
        sm: Compute capability, 87 for 8.7.
        memory_mib: Its own memory in MiB, or None where it shares the host's.
    """

    name: str
    sm: int
    memory_mib: int | None


class CudaAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the library answered.

    Attributes:
        devices: Those that a program started here sees.
        version: The highest CUDA version that the driver supports, 12060 for 12.6.
        fault: Why there is no answer, as the end of a sentence, or None.
    """

    devices: tuple[CudaDevice, ...] = ()
    version: int | None = None
    fault: str | None = None


def ask() -> CudaAnswer:
    """Ask libcuda.so.1; where that fails, the answer is the fault."""
    import subprocess  # not where there is no Jetson

    query = Path(__file__).with_name("cuda_query.py")
    try:
        run = subprocess.run(
            [sys.executable or "python3", "-I", "-S", query],
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
        return msgspec.json.decode(run.stdout, type=CudaAnswer)
    except subprocess.TimeoutExpired:
        return CudaAnswer(fault=f"it did not answer within {_TIMEOUT_S} s")
    except subprocess.CalledProcessError as error:
        return CudaAnswer(fault=f"the process that asked it ended with {error.returncode}")
    except (OSError, msgspec.DecodeError) as error:
        return CudaAnswer(fault=f"it could not be asked ({error})")


def dotted_cuda(version: int) -> str:
    """A CUDA version as NVIDIA's pages write it: 12.6 for 12060."""
    return f"{version // 1000}.{version % 1000 // 10}"
