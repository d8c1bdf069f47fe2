"""The log events of compiling: one method each, all with `extra={"kind": ..., "kv": {...}}`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from .build import EngineCompileSummary


class CompileEvents:
    """Writes the c10 events to a logger; docs/events.md lists them."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def hit(self, model: str, engine_path: Path) -> None:
        """An engine is fresh and is reused."""
        self._log(
            logging.INFO,
            "c10.engine.cache.hit",
            f"{engine_path.name} is fresh",
            model=model,
            engine_path=str(engine_path),
        )

    def mismatch(self, model: str, engine_path: Path, reason: str) -> None:
        """An engine is there, and its sidecar is missing, malformed or another's."""
        self._log(
            logging.WARNING,
            "c10.engine.sidecar.mismatch",
            f"{engine_path.name} is not believed: {reason}",
            model=model,
            engine_path=str(engine_path),
            reason=reason,
        )

    def miss(self, model: str, engine_path: Path, reason: str) -> None:
        """An engine is going to be built."""
        self._log(
            logging.WARNING,
            "c10.engine.cache.miss",
            f"building {engine_path.name}: {reason}",
            model=model,
            engine_path=str(engine_path),
            reason=reason,
        )

    def restored(self, model: str, engine_path: Path, store: str) -> None:
        """An engine was taken from a store."""
        self._log(
            logging.INFO,
            "c10.engine.store.restored",
            f"{engine_path.name} was restored from {store}",
            model=model,
            engine_path=str(engine_path),
            store=store,
        )

    def built_by(self, model: str, engine_path: Path, host: str, seconds: float) -> None:
        """An engine was built on the farm and is published."""
        self._log(
            logging.INFO,
            "c10.engine.farm.built",
            f"{engine_path.name} was built by {host}",
            model=model,
            engine_path=str(engine_path),
            host=host,
            duration_s=round(seconds, 3),
        )

    def warning(self, text: str) -> None:
        """A person should know something of the inputs."""
        self._log(logging.WARNING, "c10.engine.inputs.warning", text, reason=text)

    def error(self, model: str, calibration_path: Path | None, error: Exception) -> None:
        """An engine could not be built."""
        self._log(
            logging.ERROR,
            "c10.engine.compile.error",
            f"{model}: {error}",
            model=model,
            calibration_path=None if calibration_path is None else str(calibration_path),
            error_class=type(error).__name__,
            error=str(error),
        )

    def summary(self, summary: EngineCompileSummary, total: int) -> None:
        """A request is done, or was ended by an error."""
        self._log(
            logging.INFO,
            "c10.engine.compile.summary",
            f"{summary.engines_built} built, {summary.engines_reused} reused of {total}",
            engines_built=summary.engines_built,
            engines_reused=summary.engines_reused,
            cache_hit_ratio=summary.cache_hit_ratio,
            total=total,
        )

    def _log(self, level: int, kind: str, text: str, **kv: Any) -> None:
        self._logger.log(level, "%s", text, extra={"kind": kind, "kv": kv})
