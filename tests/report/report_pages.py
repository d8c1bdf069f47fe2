"""Facts for reports, made by hand, and what a page holds as its parser sees it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path

from enginery.corpus import read_corpus
from enginery.inputs import InputDigests
from enginery.jobs import corpus_jobs
from enginery.report.contents import Section, gather
from enginery.report.page import render
from enginery.status import survey

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
BEGAN = datetime(2026, 1, 2, 3, 0, 0, tzinfo=timezone.utc)

_VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})


@dataclass
class Element:
    """An element with its attributes, its children and all text inside."""

    tag: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    own: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(" ".join(part.own) for part in [self, *self.all()]).strip()

    def all(self, tag: str | None = None) -> list[Element]:
        found = []
        for child in self.children:
            if tag is None or child.tag == tag:
                found.append(child)
            found += child.all(tag)
        return found


class Page(HTMLParser):
    """A page as a tree; ill nesting fails."""

    def __init__(self, document: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self._open = [self.root]
        self.feed(document.decode())
        self.close()
        assert self._open == [self.root], [one.tag for one in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} has an attribute twice"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag, tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self._open[-1].own.append(" ".join(data.split()))

    def all(self, tag: str | None = None) -> list[Element]:
        return self.root.all(tag)

    def by_id(self, name: str) -> Element:
        (found,) = (one for one in self.all() if one.attributes.get("id") == name)
        return found


def section_of(folder: Path) -> Section:
    corpus = read_corpus(folder / "corpus.toml")
    jobs = corpus_jobs(corpus)
    inputs = InputDigests()
    return gather(corpus, jobs, list(survey((*jobs.engines, *jobs.unknown), inputs)), inputs)


def rendered(*sections: Section) -> bytes:
    return render(sections, version="1.2.3", now=NOW)


def event(seconds: float, kind: str, **kv: object) -> str:
    time = (BEGAN + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
    return json.dumps({"time": time, "kind": kind, "kv": kv})


def write_run(folder: Path, *lines: str) -> Path:
    path = folder / ".enginery/last-run.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


RUN = (
    event(0, "c10.run.start", version="1.2.3", arguments=["-n", "2"]),
    event(0.5, "c10.task.start", task="plain"),
    event(0.5, "c10.engine.cache.miss", task="plain", model="plain", engine_path="x",
          reason="it is not there"),
    event(1, "c10.later.kind", whatever=[1, {"a": 2}]),
    event(1, "c10.task.start", task="half"),
    event(1.2, "c10.task.skip", task="external", outcome="fresh"),
    event(2.5, "c10.task.end", task="plain", outcome="built", duration_s=2.0),
    event(3, "c10.task.end", task="half", outcome="failed", duration_s=2.0, error="no such op"),
    event(3.5, "c10.task.start", task="slow"),
    event(4, "c10.engine.compile.summary", engines_built=1, engines_reused=1, engines_restored=0,
          engines_failed=1, engines_skipped=0, cache_hit_ratio=0.5, total=3, wall_s=4.0, saved_s=7.5,
          interrupted=True, unfinished=["slow"]),
)  # fmt: skip
