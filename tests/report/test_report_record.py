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


def test_a_task_that_ran_twice_is_told_twice(tmp_path: Path) -> None:
    run = read_last_run(
        write_run(
            tmp_path,
            event(0, "c10.run.start"),
            event(1, "c10.task.start", task="a"),
            event(1, "c10.engine.cache.miss", task="a", reason="it is not there"),
            event(2, "c10.task.end", task="a", outcome="failed", duration_s=1, error="no memory"),
            event(3, "c10.task.start", task="a"),
            event(3, "c10.task.start", task="b"),
            event(4, "c10.task.start", task="b"),
            event(6, "c10.task.end", task="a", outcome="built", duration_s=3),
        )
    )
    assert [(one.task, one.outcome, one.begin_s, one.duration_s, one.words) for one in run.tasks] == [
        ("a", "failed", 1.0, 1.0, "no memory"),
        ("b", "unfinished", 3.0, 1.0, ""),
        ("a", "built", 3.0, 3.0, ""),
        ("b", "unfinished", 4.0, 2.0, ""),
    ]  # fmt: skip


def test_what_a_killed_process_and_an_editor_leave_costs_no_more_than_itself(
    tmp_path: Path,
) -> None:
    path = write_run(tmp_path, *RUN)
    whole = read_last_run(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n\r\n"))
    assert read_last_run(path) == whole
    with path.open("ab") as file:
        file.write(b'{"time": "2026-01-02T03:04:05Z", "kind": "c10.task.st')
    assert read_last_run(path) == whole


def test_events_without_a_task_are_not_of_one(tmp_path: Path) -> None:
    run = read_last_run(
        write_run(
            tmp_path,
            event(0, "c10.run.start"),
            event(0, "c10.engine.cache.miss", reason="it is not there"),
            event(1, "c10.task.skip", outcome="fresh"),
            event(1, "c10.task.end", outcome="done", duration_s=1),
        )
    )
    assert run.tasks == ()
    assert run.skipped == {}


def test_dates_at_the_ends_of_time(tmp_path: Path) -> None:
    path = tmp_path / "last-run.jsonl"
    for time in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"):
        path.write_text(
            f'{{"time": "{time}", "kind": "c10.task.end", "kv": '
            '{"task": "a", "outcome": "done", "duration_s": 86400}}\n'
        )
        assert [one.begin_s for one in read_last_run(path).tasks] == [0.0]


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
        b"no json\n" + RUN[0].encode(),
        b"[" * 100_000,
        (
            b'{"time": "2026-01-02T03:04:05Z", "kind": "c10.engine.compile.summary", "kv": '
            b'{"cache_hit_ratio": 1e308}}\n'
        ),
        (
            b'{"time": "2026-01-02T03:04:05Z", "kind": "c10.engine.compile.summary", "kv": '
            b'{"engines_built": 99999999999999999999999999}}\n'
        ),
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
    for nothing in ("", "\n \n"):
        (tmp_path / "last-run.jsonl").write_text(nothing)
        with pytest.raises(EngineryError, match="empty"):
            read_last_run(tmp_path / "last-run.jsonl")
    (tmp_path / "folder").mkdir()
    with pytest.raises(EngineryError, match="cannot be read"):
        read_last_run(tmp_path / "folder")
