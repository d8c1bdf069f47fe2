"""`[backbones.<name>.check]`: how lowered models are compared with the original.

Apart from the other tables because only a corpus that has one needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from .accuracy import Tolerances
from .config import CheckSpec, PrecisionMode
from .corpus_tables import read_table


class CheckTable(msgspec.Struct, forbid_unknown_fields=True):
    """`[backbones.<name>.check]`: how lowered models are compared with the original.

    Attributes:
        data: A pattern for .npz or .npy files with inputs; generated inputs where left out.
        samples: How many inputs are generated.
        seed: Seed of the generated inputs.
        fp16: Tolerances of fp16.
        bf16: Tolerances of bf16.
        int8: Tolerances of int8.
    """

    data: Annotated[str, Meta(min_length=1)] | None = None
    samples: Annotated[int, Meta(ge=1)] = 4
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    fp16: Tolerances = Tolerances()
    bf16: Tolerances = Tolerances()
    int8: Tolerances = Tolerances()


def read_check(path: Path, key: str, table: dict[str, Any]) -> CheckSpec:
    """The table as its type has it.

    Raises:
        CorpusError: It is not of that type; the message names the key and the remedy.
    """
    read = read_table(path, f"{key}.check", table, CheckTable)
    tables = {
        PrecisionMode.FP16: read.fp16,
        PrecisionMode.BF16: read.bf16,
        PrecisionMode.INT8: read.int8,
    }
    return CheckSpec(
        folder=path.parent,
        data=read.data,
        samples=read.samples,
        seed=read.seed,
        tolerances={mode: _bounds(table) for mode, table in tables.items()},
    )


def _bounds(tolerances: Tolerances) -> dict[str, str]:
    given = msgspec.structs.asdict(tolerances)
    return {name: repr(bound) for name, bound in given.items() if bound is not None}
