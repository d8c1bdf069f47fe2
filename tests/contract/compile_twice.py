"""Make an engine true twice with the runtime `tensorrt`, and say what came of it, in JSON.

    python compile_twice.py MODEL FOLDER

Run where `import tensorrt` has stand-ins and ENGINERY_HOST declares a host.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from enginery import BackboneSpec, EngineCompiler, EngineCompileRequest, PrecisionMode
from enginery.probing import probe
from enginery.runtimes.tensorrt import TensorRT


def main(model: str, folder: str) -> None:
    """See the module."""
    request = EngineCompileRequest(
        backbones=(BackboneSpec("small", Path(model), (1, 3, 16, 16)),),
        calibration_path=None,
        cache_root=Path(folder),
        precision=PrecisionMode.FP32,
        host=probe().capabilities(),
        workspace_mb=64,
    )
    compiler = EngineCompiler(inference_runtime=TensorRT(), logger=logging.getLogger("contract"))
    found = [compiler.compile_engines_for_corpus(request)[0] for _ in range(2)]
    outcomes = [(str(one.outcome), one.entry.engine_path.name) for one in found]
    json.dump({"installed": TensorRT().installed_version(), "outcomes": outcomes}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
