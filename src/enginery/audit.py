"""The audit: whether an engine really comes from its inputs, by building it again."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from .compiler import EngineCompiler
from .corpus import read_corpus
from .corpus_tables import nearest
from .digest import sha256_file, short
from .engine_job import EngineJob
from .errors import EngineIntegrityError, EngineryError, IrregularFileError
from .jobs import engine_jobs
from .runtimes import load_runtime
from .sidecar import Sha256Sidecar


def audit(corpus: Path, folder: Path, name: str) -> Iterator[tuple[Path, str, bool]]:
    """Build the engines of a backbone again, elsewhere, and compare their bytes.

    Args:
        corpus: The corpus file.
        folder: The folder with the engines in question.
        name: A backbone, or the file name of one engine.

    Yields:
        An engine, what was found of it, in words, and whether its bytes are those of the build.

    Raises:
        EngineryError: The corpus cannot be read or has no such engine, or a build fails.
    """
    there = [
        job for job in engine_jobs(read_corpus(corpus)) if (folder / job.plan.path.name).exists()
    ]
    jobs = [job for job in there if name in (job.name, job.plan.path.name)]
    if not jobs:
        guess = nearest(name, [word for job in there for word in (job.name, job.plan.path.name)])
        raise EngineryError(
            f"{corpus} has no engine of {name!r} that is in {folder}; "
            f"{guess or 'name a backbone, or the file of an engine'}"
        )
    for job in jobs:
        engine = folder / job.plan.path.name
        yield engine, *_compared(job, engine)


def _compared(job: EngineJob, engine: Path) -> tuple[str, bool]:
    runtime = load_runtime(job.runtime)
    recorded = _recorded(engine)
    with tempfile.TemporaryDirectory(prefix="enginery-audit-") as scratch:
        # What lies beside the corpus is neither believed nor changed.
        lowered = Path(scratch) / "lowered"
        request = replace(job.request, cache_root=Path(scratch), lowered_root=lowered)
        compiler = EngineCompiler(
            inference_runtime=runtime, logger=logging.getLogger("enginery.audit")
        )
        (result,) = compiler.compile_engines_for_corpus(request)
        built = result.entry.sha256_hex
    if built == recorded:
        return f"rebuilt    {engine.name}: the same bytes, {short(built)}", True
    reason = (
        "it does not come from these inputs and this toolchain"
        if runtime.reproducible
        else f"{runtime.name} does not build the same bytes twice, so this says nothing"
    )
    return (
        f"different  {engine.name}: {short(recorded)} here, {short(built)} rebuilt; {reason}",
        not runtime.reproducible,
    )


def _recorded(engine: Path) -> str:
    recorded = Sha256Sidecar.read(engine)
    try:
        actual = sha256_file(engine)
    except (OSError, IrregularFileError) as error:
        raise EngineIntegrityError(f"{engine.name} cannot be read: {error}") from error
    if actual != recorded:
        raise EngineIntegrityError(f"{engine.name} is damaged; there is nothing to compare")
    return recorded
