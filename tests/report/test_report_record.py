"""The record of the last run: what is told of it, and that nothing of it is an error."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_pages import RUN, event, write_run

from enginery.errors import EngineryError
from enginery.report.last_run import read_last_run


def test_tasks_in_order_with_outcome_and_words(tmp_path: Path) -> None:
    run = read_last_run(write_run(tmp_path, *RUN))
    assert [(one.task, one.outcome) for one in run.tasks] == [
        ("plain", "built"),
        ("half", "failed"),
        ("slow", "unfinished"),
    ]
    assert [(one.begin_s, one.duration_s) for one in run.tasks] == [
        (0.5, 2.0),
        (1.0, 2.0),
        (3.5, 0.5),
    ]
    assert [one.words for one in run.tasks] == ["it is not there", "no such op", ""]
    assert run.skipped == {"external": "fresh"}
    assert run.arguments == ("-n", "2")
    assert run.summary is not None
    assert run.summary.unfinished == ("slow",)
    assert run.duration_s == 4.0


def test_an_end_without_a_start_began_when_its_duration_says(tmp_path: Path) -> None:
    run = read_last_run(
        write_run(
            tmp_path,
            event(0, "c10.run.start"),
            event(5, "c10.task.end", task="a", outcome="built", duration_s=3.5),
        )
    )
    assert run.tasks[0].begin_s == 1.5
    assert run.summary is None


def test_a_clock_that_went_back_draws_nothing_left_of_the_begin(tmp_path: Path) -> None:
    run = read_last_run(
        write_run(
            tmp_path,
            event(10, "c10.run.start"),
            event(3, "c10.task.start", task="a"),
            event(4, "c10.task.end", task="a", outcome="built", duration_s=1),
        )
    )
    assert run.tasks[0].begin_s == 0


@pytest.mark.parametrize(
    "content",
    [
        b"no json\n",
        b"{}\n",
        b'{"time": "yesterday", "kind": "c10.run.start", "kv": {}}\n',
        b'{"time": "2026-01-02T03:04:05", "kind": "c10.run.start", "kv": {}}\n',
        b'{"time": "2026-01-02T03:04:05Z", "kind": "c10.task.end", "kv": {"task": "a"}}\n',
        (
            b'{"time": "2026-01-02T03:04:05Z", "kind": "c10.task.end", "kv": '
            b'{"task": "a", "outcome": "built", "duration_s": -1}}\n'
        ),
        b'{"time": "2026-01-02T03:04:05Z", "kind": "c10.task.start", "kv": [1]}\n',
        b"\xff\xfe\n",
        b"\n",
        b'{"time": "2026-01-02T03:04:05Z", "kind": "c10.task.st',
    ],
)
def test_what_is_no_record_is_said_to_be_unreadable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last-run.jsonl"
    path.write_bytes(content)
    with pytest.raises(EngineryError, match="cannot be read"):
        read_last_run(path)


def test_none_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(EngineryError, match="no run is recorded yet"):
        read_last_run(tmp_path / "last-run.jsonl")
    (tmp_path / "last-run.jsonl").touch()
    with pytest.raises(EngineryError, match="empty"):
        read_last_run(tmp_path / "last-run.jsonl")
    (tmp_path / "folder").mkdir()
    with pytest.raises(EngineryError, match="cannot be read"):
        read_last_run(tmp_path / "folder")
