"""A bare Polygraphy script: parse, build, save. What someone without enginery writes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = "1"

import tensorrt_rtx as trt
from polygraphy.backend.tensorrt_rtx import CreateConfigRTX
from polygraphy.backend.trt import engine_bytes_from_network, network_from_onnx_path


def main() -> None:
    """Build the model of the command line in a precision and write the engine."""
    model, precision, output = sys.argv[1:4]
    if precision == "fp16":
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16

        half = convert_float_to_float16(onnx.load(model), keep_io_types=True)
        model = f"{output}.onnx"
        Path(model).write_bytes(half.SerializeToString(deterministic=True))
    config = CreateConfigRTX(
        compute_capabilities=[(8, 6), (8, 9), (12, 0)],
        use_gpu=False,
        memory_pool_limits={
            trt.MemoryPoolType.WORKSPACE: 4096 << 20,
            trt.MemoryPoolType.TACTIC_DRAM: 64 << 30,
            trt.MemoryPoolType.TACTIC_SHARED_MEMORY: 1 << 30,
        },
        profiling_verbosity=trt.ProfilingVerbosity.LAYER_NAMES_ONLY,
    )
    engine = engine_bytes_from_network(
        network_from_onnx_path(model, strongly_typed=True), config=config
    )
    Path(output).write_bytes(engine)


if __name__ == "__main__":
    main()
