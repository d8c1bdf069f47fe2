"""What `doit why` says, in lines for a person."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from ..digest import short
from ..explanation import InputState
from ..explanation_document import ExplanationDocument, FileDocument, StepDocument
from ..figures import IN_THE_FUTURE, age, duration, megabytes, moment
from ..recipe import EXTERNAL, Change, role_in_words
from ..status import Condition
from .corpus_table import STYLES
from .screen import Line, line

_SECTIONS = {
    "kind": "what it is",
    "build": "options",
    "toolchain": "tools",
    "target": "hardware",
}


def engine_lines(found: ExplanationDocument) -> list[Line]:
    """One engine: what it is, what changed, what follows and what to do."""
    return [
        *_heading(found),
        *_digests(found),
        *_inputs(found),
        *_changes(found.changes),
        *_stores(found),
        *_following(found),
    ]


def step_lines(found: StepDocument) -> list[Line]:
    """One step: what it is, what changed and what follows."""
    state = "fresh" if found.fresh else "not fresh"
    style = STYLES["fresh" if found.fresh else "stale"]
    inputs = [line(str(one), indent=2) for one in found.changes if one.section == "inputs"]
    rest = [*inputs, *_changes(found.changes)]
    return [
        line((found.task, "bold"), ": ", (state, style)),
        line(found.path, indent=2),
        *([] if found.fresh or rest else [line(found.reason, indent=2)]),
        *rest,
        *([line("next: ", ", ".join(found.next), indent=2)] if found.next else []),
    ]


def _heading(found: ExplanationDocument) -> Iterator[Line]:
    state = "left out" if found.left_out else found.condition.value
    yield line((found.task, "bold"), ": ", (state, STYLES[state]))
    if found.path is not None:
        yield line(found.path, indent=2)
    if found.condition is not Condition.FRESH and not _is_told_below(found):
        yield line(found.reason, indent=2)
    if found.size is None:
        return
    facts = [megabytes(found.size)]
    if found.built_on is not None and found.build_s is not None:
        since = _since(found.built_on)
        by = f" by {found.built_by}" if found.built_by else ""
        took = duration(found.build_s)
        facts.append(f"built {moment(found.built_on)} ({since}) in {took}{by}")
    if found.condition is Condition.FRESH and found.sha256:
        facts.append(f"SHA-256 {short(found.sha256)}")
    yield line(", ".join(facts), indent=2)


def _since(moment: datetime) -> str:
    since = age(moment, datetime.now(timezone.utc))
    if since == IN_THE_FUTURE:
        return since
    return "just now" if since == "now" else f"{since} ago"


def _is_told_below(found: ExplanationDocument) -> bool:
    """Whether the reason is just the changes, or inputs that went, which are told one by one."""
    if found.condition is not Condition.STALE:
        return False
    return found.reason == "; ".join(map(str, found.changes)) or any(map(_is_gone, found.files))


def _digests(found: ExplanationDocument) -> Iterator[Line]:
    """The digests where they do not agree, or one of them is not there."""
    digests = found.digests
    three = (digests.file, digests.sidecar, digests.provenance)
    if found.size is None or len(set(three)) == 1 or digests.file is None:
        return
    names = ("its bytes are", "its sidecar says", "its provenance says")
    for name, digest in zip(names, three, strict=True):
        said = short(digest) if digest else "nothing that can be used"
        yield line(f"{name:<20}{said}", indent=4)


def _inputs(found: ExplanationDocument) -> Iterator[Line]:
    known = found.fingerprint is not None
    shown = [one for one in found.files if not known or one.state is not InputState.SAME]
    if found.condition is Condition.FRESH or not known:
        shown = list(found.files)
    if not shown:
        return
    yield line("inputs", indent=2)
    for one in shown:
        what = _what(one)
        plain = one.state is InputState.SAME or (not known and one.state is InputState.ADDED)
        if plain:
            yield line(f"{what}: {_now(one)}", indent=4)
        else:
            yield line(f"{what}: ", (_became(one), "yellow"), indent=4)
            yield from _then_and_now(found, one)


def _what(one: FileDocument) -> str:
    if one.role.startswith(EXTERNAL):
        return f"external data {one.path}"
    return f"{role_in_words(one.role)}, {one.path}"


_WORDS = {
    "changed": "changed",
    "added": "added",
    "removed": "no input any more",
    "unreadable": "cannot be read",
}


def _became(one: FileDocument) -> str:
    return "not there" if _is_gone(one) else _WORDS[one.state.value]


def _is_gone(one: FileDocument) -> bool:
    return one.state is InputState.UNREADABLE and one.size is None


def _then_and_now(found: ExplanationDocument, one: FileDocument) -> Iterator[Line]:
    if one.old is not None:
        when = "" if found.built_on is None else f" when it was built, {moment(found.built_on)}"
        yield line(f"was {short(one.old)}{when}", indent=6)
    if one.new is not None:
        yield line(f"is  {_now(one)}", indent=6)
    if one.also_in:
        yield line(f"also an input of {', '.join(one.also_in)}", indent=6)


def _now(one: FileDocument) -> str:
    facts = [short(one.new)] if one.new else ["cannot be read"]
    if one.size is not None:
        facts.append(megabytes(one.size))
    if one.modified is not None:
        facts.append(f"written {moment(one.modified)}")
    return ", ".join(facts)


def _changes(changes: tuple[Change, ...]) -> Iterator[Line]:
    for section, heading in _SECTIONS.items():
        chosen = [change for change in changes if change.section == section]
        if chosen:
            yield line(heading, indent=2)
            for change in chosen:
                yield line(str(change), indent=4)


def _stores(found: ExplanationDocument) -> Iterator[Line]:
    stores = found.stores
    if stores.has is None:
        return
    if stores.has:
        # One that is to be left out here is restored by `doit pull` alone, as the remedy says.
        then = ": restored, not built" if found.next else ""
        yield line(f"the engine of now is in the local store, {stores.local}{then}", indent=2)
        return
    why = f": {stores.reason}" if stores.reason else ""
    yield line(f"the engine of now is not in the local store, {stores.local}{why}", indent=2)
    if stores.remote:
        yield line(f"the remote store, {stores.remote}, was not asked", indent=2)


def _following(found: ExplanationDocument) -> Iterator[Line]:
    if found.next:
        yield line(f"next: {', '.join(found.next)}", indent=2)
    if found.next and found.used_by:
        yield line(f"then, as they use it: {', '.join(found.used_by)}", indent=2)
    if found.remedy:
        yield line("to do: ", (found.remedy, "bold"), indent=2)
