"""An engine from the farm, published here: asked for, waited for, believed as a store's."""

from __future__ import annotations

from collections.abc import Callable

from ..build import BuildProgress
from ..config import PrecisionMode
from ..inputs import InputDigests
from ..plan import EnginePlan, check_unchanged
from ..recipe import Recipe
from ..store.engines import EngineStore
from ..store.manifest import Stored
from .asked import Made
from .client import Farm


def check_cache(
    plan: EnginePlan, inputs: InputDigests, warn: Callable[[str], None] | None = None
) -> None:
    """Raise CalibrationCacheError if an int8 engine's cache is known to be of another model.

    Its provenance lies here, and no worker has it.
    """
    cache = plan.request.calibration_path
    if plan.request.precision is PrecisionMode.INT8 and cache is not None:
        from ..calibration.binding import check_bound  # not where nothing is in int8

        check_bound(cache, plan.spec.onnx_path, inputs, warn)


def take(
    farm: Farm,
    plan: EnginePlan,
    inputs: InputDigests,
    store: EngineStore,
    progress: Callable[[BuildProgress], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> tuple[Recipe, Made]:
    """Have an engine built on the farm and publish it; what from, and who made it.

    Args:
        farm: Who is asked.
        plan: The engine.
        inputs: Digests of the inputs.
        store: What is believed, and where it is kept besides.
        progress: Called, in this thread, with what the worker reports.
        warn: Called with what a person should know of the calibration cache.

    Raises:
        EngineryError: Nobody builds it, or nobody whose engine is believed; or an input changed
            meanwhile, and nothing was published.
        OSError: The engine cannot be written.
    """
    recipe = plan.recipe(inputs)
    check_cache(plan, inputs, warn)

    def build() -> Stored:
        stored = farm.build(plan, recipe, plan.input_paths(recipe), plan.runtime_name, progress)
        check_unchanged(plan, recipe)
        return stored

    return recipe, store.take_from_farm(farm, build, plan.path, recipe, plan.input_names())
