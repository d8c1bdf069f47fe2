"""`doit host`: what this machine is, and which targets of the corpus can be built on it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from doit.cmd_base import DoitCmdBase
from doit.exceptions import InvalidDodoFile

from ..corpus import Corpus
from ..errors import HostError
from ..hardware import dotted
from ..host import Host
from ..jobs import CorpusJobs
from ..targets import Target
from .screen import write

_VERSION = 1


class HostCommand(DoitCmdBase):  # type: ignore[misc]
    """doit's command `host`."""

    name = "host"
    doc_purpose = "show this machine, and which targets of the corpus can be built on it"
    doc_usage = ""
    doc_description = (
        "ENGINERY_HOST, or a table [host] in corpus.toml, declares another machine instead."
    )
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "name": "json",
            "short": "",
            "long": "json",
            "type": bool,
            "default": False,
            "help": "as JSON; docs/host.md has the fields",
        },
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """Answer, in a folder without a dodo.py too."""
        if args:
            sys.stderr.write(f"ERROR: `doit host` takes no arguments; {args[0]!r} is one\n")
            return 3
        try:
            return int(super().execute(params, args) or 0)
        except InvalidDodoFile:
            named = {"dodoFile", "cwdPath", "seek_file"} & params._non_default_keys
            if named or Path(params["dodoFile"]).exists():
                raise
            return _show((), as_json=params["json"])

    def _execute(self, json: bool) -> int:
        from .this_run import corpora

        return _show(corpora(), as_json=json)


def _show(corpora: Iterable[tuple[Corpus, CorpusJobs]], *, as_json: bool) -> int:
    from ..probing import probe

    known = list(corpora)
    try:
        host = known[0][1].host() if len(known) == 1 else probe()
        text = _json(host, known) if as_json else "\n".join(_lines(host, known))
        write(text + "\n")
    except HostError as error:
        sys.stderr.write(f"ERROR: {error}\n")
        return 3
    except OSError as error:
        sys.stderr.write(f"ERROR: standard output cannot be written: {error.strerror}\n")
        return 3
    return 0


def _json(host: Host, known: list[tuple[Corpus, CorpusJobs]]) -> str:
    document = {
        "version": _VERSION,
        "host": msgspec.to_builtins(host),
        "corpora": [_corpus_document(corpus, jobs) for corpus, jobs in known],
    }
    return msgspec.json.format(msgspec.json.encode(document)).decode()


def _corpus_document(corpus: Corpus, jobs: CorpusJobs) -> dict[str, Any]:
    return {
        "path": str(corpus.path),
        "host": jobs.host().source,
        "targets": [
            {
                "name": target.name,
                "runtime": target.runtime.name,
                "hardware": target.hardware and msgspec.to_builtins(target.hardware),
                "engines": _count(jobs, target),
                "built_here": target.elsewhere is None,
                "reason": target.elsewhere,
                "elsewhere": target.spec.elsewhere,
            }
            for target in jobs.targets.values()
        ],
    }


def _lines(host: Host, corpora: list[tuple[Corpus, CorpusJobs]]) -> Iterator[str]:
    yield from _columns(list(_facts(host)))
    for corpus, jobs in corpora:
        yield ""
        declared = "" if jobs.host() == host else f": this host is {jobs.host()}"
        yield f"{corpus.path}{declared}"
        yield from _columns(
            [("target", "runtime", "engines", "built here")]
            + [
                (
                    target.name,
                    target.runtime.name,
                    str(_count(jobs, target)),
                    f"yes: {target.hardware}" if target.elsewhere is None else _no(target),
                )
                for target in jobs.targets.values()
            ]
        )


def _facts(host: Host) -> Iterator[tuple[str, str]]:
    yield "host", host.source
    yield "CPU", host.cpu
    for gpu in host.gpus:
        memory = f", {gpu.memory_mib} MiB" if gpu.memory_mib else ""
        mig = f", {len(gpu.mig)} MIG instances" if gpu.mig else ""
        yield f"GPU {gpu.index}", f"{gpu.name}, SM {dotted(gpu.sm)}{memory}{mig}"
    if not host.gpus:
        yield "GPU", "none"
    for name, value in (
        ("board", host.board),
        ("L4T", host.l4t),
        ("JetPack", host.jetpack),
        ("driver", host.driver),
        ("CUDA", host.cuda),
    ):
        if value:
            yield name, value
    yield "TensorRT", host.trt or "none"
    for remark in host.remarks:
        yield "remark", remark


def _no(target: Target) -> str:
    what = "left out" if target.spec.elsewhere == "skip" else "no"
    return f"{what}: {target.elsewhere}"


def _count(jobs: CorpusJobs, target: Target) -> int:
    names = [job.target for job in jobs.engines] + [job.target for job in jobs.unknown]
    return names.count(target.name)


def _columns(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Rows with their columns under each other; the last is as long as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for *first, last in rows:
        cells = (cell.ljust(width) for cell, width in zip(first, widths, strict=False))
        yield "  ".join([*cells, last])
