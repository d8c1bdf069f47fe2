"""`doit plan`: what a run would do with every engine, and by whom; nothing is started."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..corpus import Corpus
from ..engine_job import EngineJob, UnknownEngine
from ..errors import EngineryError, FarmError
from ..inputs import InputDigests
from ..jobs import input_memory
from .corpus_command import DONE, CorpusCommand
from .screen import Screen, write

if TYPE_CHECKING:
    from ..farm.connected import Connected
    from ..farm.pace import Paces
    from ..farm.planning import Builder, Wanted
    from ..farm_spec import FarmSpec

    Chosen = Sequence[EngineJob | UnknownEngine]

_JSON: dict[str, Any] = {
    "name": "json",
    "short": "",
    "long": "json",
    "type": bool,
    "default": False,
    "help": "as JSON; docs/plan.md has the fields",
}


class PlanCommand(CorpusCommand):
    """Plans a run and starts nothing."""

    name = "plan"
    doc_purpose = "show what a run would do with every engine, by whom and for how long"
    doc_usage = "[NAME ...]"
    doc_description = (
        "A NAME is a backbone or the task of an engine; without one it is all of them. The farm's "
        "scheduler is asked who is connected. Nothing is built, fetched or changed."
    )
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        _JSON,
        {
            "name": "inventory",
            "short": "",
            "long": "inventory",
            "type": str,
            "default": "",
            "help": "also say which engines the kinds of devices in this file have: fleet.toml",
        },
        {
            "name": "remote",
            "short": "",
            "long": "remote",
            "type": bool,
            "default": False,
            "help": "ask the remote store, too, for every engine that is not here",
        },
        {
            "name": "slots",
            "short": "n",
            "long": "process",
            "type": int,
            "default": 1,
            "help": "builds at a time on this host, as for a run [default: %(default)s]",
        },
    )

    def _execute(self, json: bool, inventory: str, remote: bool, slots: int) -> int:
        show = partial(self._plan, inventory=inventory, remote=remote, slots=slots)
        return self.reporting(partial(show, as_json=json))

    def _plan(self, *, as_json: bool, inventory: str, remote: bool, slots: int) -> int:
        """Show the plan."""
        from ..farm.fleet import read_fleet
        from ..farm.plan_document import served
        from ..farm.planning import make_plan

        if slots < 1:
            raise EngineryError(f"-n {slots} builds nothing at a time; write 1 or more")
        kinds = read_fleet(inventory) if inventory else ()
        self._notes: list[str] = []
        chosen = self.selected()
        workers = _Workers(self._note)
        wanted = list(self._found(chosen, workers, remote=remote))
        plan = make_plan(wanted, self._builders(wanted, workers, slots), self._paces(wanted))
        devices = served(kinds, plan.engines) if inventory else None
        if as_json:
            from ..farm.plan_document import plan_document
            from ..status_document import encoded

            write(encoded(plan_document(plan, devices=devices, notes=self._notes)) + "\n")
        else:
            from .plan_lines import device_lines, plan_lines

            Screen().show([*plan_lines(plan), *device_lines(devices or ())])
        return DONE

    def _note(self, text: str) -> None:
        """Say what could not be found out, once."""
        if text not in self._notes:
            self._notes.append(text)
            self.warn(text)

    def _found(self, chosen: Chosen, workers: _Workers, *, remote: bool) -> Iterator[Wanted]:
        """What is known of engines, in the order given."""
        from ..farm.findings import Findings, Made

        made = Made(file for task in self.task_list for file in task.targets)
        found: dict[str, Wanted] = {}
        for corpus, _ in self.corpora():
            jobs = [job for job in chosen if job.corpus_path == corpus.path]
            findings = Findings(
                InputDigests(input_memory(corpus)),
                warn=self._note,
                made=made,
                remote=remote,
                unserved=partial(workers.lacking, corpus.farm),
            )
            found.update((one.status.job.task, one) for one in findings.of(jobs))
        yield from (found[job.task] for job in chosen)

    def _builders(
        self, wanted: Iterable[Wanted], workers: _Workers, slots: int
    ) -> Iterator[Builder]:
        """This host, and the workers of the farms that something is to be built on."""
        from ..farm.planning import HERE, Builder

        yield Builder(HERE, slots=slots)
        asked = {one.status.job.corpus_path for one in wanted if one.tag is not None}
        farms: dict[FarmSpec, list[Path]] = {}
        for corpus, _ in self.corpora():
            if corpus.farm is not None and corpus.path in asked:
                farms.setdefault(corpus.farm, []).append(corpus.path)
        names = {HERE}
        for farm, paths in farms.items():
            for one in workers.of(farm):
                # Two workers may call themselves the same; their addresses differ.
                name = one.name if one.name not in names else f"{one.name} ({one.address})"
                names.add(name)
                yield Builder(
                    name=name,
                    slots=one.slots,
                    address=one.address,
                    tags=frozenset(one.resources),
                    host=one.name,
                    corpora=frozenset(paths),
                )

    def _paces(self, wanted: Sequence[Wanted]) -> Paces:
        """How long builds took, where something is to be built."""
        from ..farm.pace import Paces, past_in

        if not any(_is_built(one) for one in wanted):
            return Paces((), _no_sizes)
        statements = {
            one.status.job.plan.path: one.status.statement
            for one in wanted
            if isinstance(one.status.job, EngineJob) and one.status.statement is not None
        }
        folders = dict.fromkeys(corpus.engines for corpus, _ in self.corpora())
        sizes = _Sizes([corpus for corpus, _ in self.corpora()])
        return Paces((past for folder in folders for past in past_in(folder, statements)), sizes)


class _Workers:
    """The workers of farms, each scheduler asked once; one that is down has none."""

    def __init__(self, note: Any) -> None:
        self._note = note
        self._found: dict[FarmSpec, list[Connected]] = {}
        self._down: set[FarmSpec] = set()

    def of(self, farm: FarmSpec) -> list[Connected]:
        """The workers of a farm."""
        from ..farm.connected import connected

        if farm not in self._found:
            try:
                self._found[farm] = connected(farm)
            except FarmError as error:
                self._found[farm] = []
                self._down.add(farm)
                self._note(f"{error} The plan is made without its workers.")
        return self._found[farm]

    def lacking(self, farm: FarmSpec | None) -> str | None:
        """Why a farm has no worker at all; None where it has some."""
        if farm is None:
            return "the corpus has no farm"
        if not self.of(farm):
            down = farm in self._down
            return f"the scheduler {farm.scheduler} {'is down' if down else 'has no worker'}"
        return None


class _Sizes:
    """Sizes of the backbones' models, looked up once per corpus and only if asked for."""

    def __init__(self, corpora: Iterable[Corpus]) -> None:
        self._corpora = {corpus.path: corpus for corpus in corpora}
        self._found: dict[Path, dict[str, int]] = {}

    def __call__(self, job: EngineJob) -> dict[str, int]:
        """Backbone to bytes, of the corpus of an engine."""
        from ..history import model_size

        path = job.corpus_path
        if path not in self._found:
            self._found[path] = {
                one.spec.model_name: model_size(one.spec.onnx_path)
                for one in self._corpora[path].backbones
            }
        return self._found[path]


def _no_sizes(_: EngineJob) -> dict[str, int]:
    return {}


def _is_built(one: Wanted) -> bool:
    settled = one.status.fresh or one.left_out or one.fault is not None
    return not settled and one.store is None
