"""The page by its DOM: what it says, that it loads nothing, and that nothing in it is markup."""

from __future__ import annotations

import json
import re
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from conftest import Project, flip_bit
from report_pages import NOW, RUN, Page, event, rendered, section_of, write_run

from enginery.accuracy import Metrics
from enginery.engine_job import EngineJob
from enginery.report.checks import Check, CheckReport
from enginery.report.contents import Section
from enginery.report.last_run import LastRun, TaskRun
from enginery.report.measures import measures
from enginery.report.page import render
from enginery.report.timeline import timeline
from enginery.status import Condition

EVIL = """<script>alert(1)</script>"'&{{ 7919*7907 }}</style>--><b>\\"""


def words(page: Page) -> str:
    """All that is read in the page, on one line."""
    (body,) = page.all("body")
    return " ".join(" ".join(one.text for one in body.children if one.tag != "script").split())


@pytest.fixture(scope="module")
def section(built_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Section:
    return section_of(built_project.path)


def test_it_loads_nothing_and_is_small(project: Project) -> None:
    write_run(project.path, *RUN)
    document = rendered(section_of(project.path))
    assert len(document) < 200_000
    text = document.decode()
    assert not re.findall(r"https?://(?!www\.w3\.org/)", text)
    assert "src=" not in text
    assert "@import" not in text
    assert "url(" not in text
    page = Page(document)
    loaded = [one for one in page.all() if one.tag in {"img", "iframe", "object", "embed", "base"}]
    assert not loaded
    assert [one.attributes["href"] for one in page.all("link")] == ["data:,"]
    assert all(one.attributes["href"].startswith("#") for one in [*page.all("a"), *page.all("use")])
    assert not [one for one in page.all() if "style" in one.attributes]  # the policy forbids them
    assert not [one for one in page.all() for name in one.attributes if name.startswith("on")]


def test_structure(project: Project) -> None:
    write_run(project.path, *RUN)
    page = Page(rendered(section_of(project.path)))
    (html,) = page.all("html")
    assert html.attributes["lang"] == "en"
    assert "corpus.toml" in page.all("title")[0].text
    assert page.all("main")
    assert page.all("nav")
    assert page.all("header")
    assert page.all("footer")
    levels = [int(one.tag[1]) for one in page.all() if re.fullmatch(r"h\d", one.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(then - now <= 1 for now, then in pairwise(levels))
    ids = [one.attributes["id"] for one in page.all() if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    for one in page.all():
        href = one.attributes.get("href", "")
        assert not href.startswith("#") or href[1:] in ids, href
        for name in one.attributes.get("aria-labelledby", "").split():
            assert name in ids
    assert all(table.all("caption") for table in page.all("table"))
    pictures = [one for one in page.all("svg") if one.attributes.get("role") == "img"]
    assert len(pictures) == 6  # sizes, times and the run; each for a desk and for a phone
    assert all(one.all("title") and one.all("desc") for one in pictures)


def test_states_and_reasons(project: Project) -> None:
    flip_bit(project.engine("external"))
    project.engine("plain").unlink()
    page = Page(rendered(section_of(project.path)))
    rows = {row.all("th")[0].text: row for row in page.all("tbody")[0].all("tr")}
    assert "missing" in rows["plain"].text
    assert "damaged" in rows["external"].text
    assert "fresh" in rows["half"].text
    (link,) = rows["external"].all("a")
    assert "is damaged" in link.attributes["title"]
    detail = page.by_id(link.attributes["href"][1:])
    assert detail.tag == "details"
    assert "is damaged" in detail.text
    assert "it is not there" in words(page)


def test_provenance_is_whole(section: Section) -> None:
    text = words(Page(rendered(section)))
    for one in section.engines:
        assert one.statement is not None
        made = one.statement
        assert made.sha256_hex in text
        assert made.fingerprint in text
        for digest in made.recipe.inputs.values():
            assert digest in text
        for entries in (made.recipe.build, made.recipe.toolchain, made.recipe.target):
            for key in entries:
                assert key in text
        for package, release in made.predicate.run_details.builder.version.items():
            assert f"{package} {release}" in text
        assert isinstance(one.job, EngineJob)
        assert f"engines/{one.job.plan.path.name}" in text
    assert str(section.corpus.parent / "engines") not in text


def test_the_same_facts_give_the_same_page(section: Section) -> None:
    assert rendered(section) == rendered(section)
    later = render([section], version="1.2.3", now=NOW.replace(year=2027))
    assert later.replace(b"2027-01-02", b"2026-01-02") == rendered(section)


def test_whatever_is_named_is_text(section: Section) -> None:
    evil = f"{EVIL}\x01\ud800"
    one = section.engines[0]
    assert isinstance(one.job, EngineJob)
    backbone = msgspec.structs.replace(
        one.job.backbone,
        spec=one.job.backbone.spec.__class__(**{
            **{name: getattr(one.job.backbone.spec, name) for name in one.job.backbone.spec.__dataclass_fields__},
            "model_name": evil,
        }),
    )  # fmt: skip
    job = msgspec.structs.replace(one.job, backbone=backbone, variant=evil)
    metrics = Metrics("float", 1, 0.1, 0.1, 0.9, 30.0, 0.5)
    report = CheckReport(False, (evil,), {evil: metrics}, {"min_snr_db": 31.0}, 4)
    told = msgspec.structs.replace(
        section,
        corpus=Path(f"{EVIL}/corpus.toml"),
        host=evil,
        engines=(msgspec.structs.replace(one, job=job, reason=evil),),
        checks=(Check(evil, "fp16", None, Path(evil), report, outdated=evil),),
        last_run=LastRun(NOW, (evil,), (TaskRun(evil, evil, 0.0, 1.0, evil),), {evil: evil}, None),
    )
    document = rendered(told)
    assert b"alert(1)" in document
    assert b"<script>alert" not in document
    page = Page(document)
    assert len(page.all("script")) == 1
    assert len(page.all("style")) == 1
    text = words(page)
    shown = f"{EVIL}\ufffd\ufffd"
    # The matrix, both charts and both timelines, the lists and the tables.
    assert text.count(shown) > 10
    assert str(7919 * 7907) not in text
    drawn = [one for one in page.all("svg") if one.attributes.get("role") == "img"]
    assert all("<script>alert(1)" in one.text for one in drawn)


def test_the_last_run(project: Project) -> None:
    write_run(project.path, *RUN)
    page = Page(rendered(section_of(project.path)))
    run = page.by_id("c1-run")
    assert run.text == "Last run"
    text = words(page)
    assert (
        "1 built, 0 restored, 1 reused, 1 failed, 0 skipped; hit ratio 50 %; hits saved 7.5 s"
        in text
    )
    assert "It was interrupted ; not finished: slow" in text.replace(
        "interrupted;", "interrupted ;"
    )
    assert "no such op" in text
    (timeline,) = (
        one
        for one in page.all("svg")
        if one.attributes.get("aria-labelledby", "").startswith("c1-run-wide")
    )
    for said in ("plain", "2.0 s, built", "2.0 s, failed", "0.5 s, unfinished"):
        assert said in timeline.text
    fills = {one.attributes.get("fill") for one in timeline.all("path")}
    assert {"var(--built)", "var(--failed)", "var(--unfinished)"} <= fills


@pytest.mark.parametrize("lines", [(), ("no json",)])
def test_no_readable_record_is_said(project: Project, lines: tuple[str, ...]) -> None:
    if lines:
        write_run(project.path, *lines)
    else:
        (project.path / ".enginery/last-run.jsonl").unlink(missing_ok=True)
    text = words(Page(rendered(section_of(project.path))))
    assert "There is no timeline: " in text
    assert ("cannot be read" if lines else "no run is recorded yet") in text


def test_a_run_in_which_nothing_took_any_time(project: Project) -> None:
    write_run(
        project.path,
        event(0, "c10.task.start", task="plain"),
        event(0, "c10.task.end", task="plain", outcome="odd", duration_s=0),
    )
    assert "0 s, odd" in words(Page(rendered(section_of(project.path))))


def test_a_check_that_is_of_something_else_is_marked(project: Project) -> None:
    done = project.doit("check:half")
    assert done.returncode == 0, done.said
    section = section_of(project.path)
    (check,) = section.checks
    assert check.report is not None
    assert check.report.passed
    assert not check.outdated
    text = words(Page(rendered(section)))
    assert "passed" in text
    assert "outdated" not in text
    project.edit(
        "corpus.toml", 'precision = ["fp16"]', 'precision = ["fp16"]\ncheck = { samples = 2 }'
    )
    text = words(Page(rendered(section_of(project.path))))
    assert "outdated" in text
    assert "not of what is there now: samples: 4 -> 2" in text
    for garbage in (json.dumps({"passed": "perhaps"}), "[" * 100_000):
        check.path.write_text(garbage)
        assert "unreadable" in words(Page(rendered(section_of(project.path))))


def test_a_figure_of_three_hundred_digits_is_short() -> None:
    metrics = Metrics("float", 10, 1e308, 1e308, -1e308, 1e308, 0.1)
    assert all(len(one.text) < 12 for one in measures(metrics, {}))


def test_measures_have_the_bounds_that_count() -> None:
    metrics = Metrics("float", 10, 0.5, 0.25, 0.9, None, 0.1)
    found = {
        one.name: one
        for one in measures(metrics, {"min_cosine": 0.99, "max_rel": 0.3, "min_equal": 0.5})
    }
    assert found["cosine"].missed
    assert found["cosine"].bound == "≥ 0.99"
    assert not found["max_rel"].missed
    assert found["snr_db"].text == "\u2013"
    assert found["equal"].bound == ""  # of integers only
    labels = msgspec.structs.replace(metrics, kind="integer")
    assert {
        one.name for one in measures(labels, {"min_cosine": 0.99, "min_equal": 0.5}) if one.bound
    } == {"equal"}


def test_two_corpora_have_a_section_each(section: Section) -> None:
    other = msgspec.structs.replace(
        section, corpus=Path("other/corpus.toml"), engines=section.engines[:1]
    )
    page = Page(rendered(section, other))
    assert page.all("h1")[0].text == "2 corpora"
    assert [one.text for one in page.all("h2")] == [str(section.corpus), "other/corpus.toml"]
    levels = [int(one.tag[1]) for one in page.all() if re.fullmatch(r"h\d", one.tag)]
    assert all(then - now <= 1 for now, then in pairwise(levels))


def test_two_corpora_differ_for_screen_readers(project: Project) -> None:
    write_run(project.path, *RUN)
    one = section_of(project.path)
    page = Page(rendered(one, msgspec.structs.replace(one, corpus=Path("other/corpus.toml"))))
    names = [box.attributes["aria-label"] for box in page.all("div") if "aria-label" in box.attributes]  # fmt: skip
    assert len(names) >= 8
    assert len(set(names)) == len(names)
    sections = [
        " ".join(page.by_id(name).text for name in part.attributes["aria-labelledby"].split())
        for part in page.all("section")
        if "aria-labelledby" in part.attributes
    ]
    assert len(set(sections)) == len(sections) == 10


def test_the_matrix_is_told_whole_to_screen_readers(section: Section) -> None:
    one, two, *rest = section.engines
    assert isinstance(two.job, EngineJob)
    other = msgspec.structs.replace(two, job=msgspec.structs.replace(two.job, target="orin"))
    page = Page(rendered(msgspec.structs.replace(section, engines=(one, other, *rest))))
    (matrix,) = (
        table for table in page.all("table") if "matrix" in table.attributes["class"].split()
    )
    links = [link.attributes["aria-label"] for link in matrix.all("a")]
    assert f"{one.job.name}, {one.job.target} {one.precision}: fresh" in links
    assert f"{two.job.name}, orin {two.precision}: fresh" in links
    heads = [head.attributes.get("data-name") for head in matrix.all("th")]
    assert f"orin {two.precision}" in heads
    for span in page.all("span"):
        assert "aria-label" not in span.attributes or span.attributes.get("role") == "img"
    assert "not asked for" in [span.attributes.get("aria-label") for span in matrix.all("span")]


def test_a_long_reason_is_there_whole_but_once_per_cell_cut(section: Section) -> None:
    reason = "x" * 5000
    one = msgspec.structs.replace(section.engines[0], reason=reason, condition=Condition.STALE)
    page = Page(rendered(msgspec.structs.replace(section, engines=(one,))))
    (link,) = (a for a in page.all("a") if "title" in a.attributes)
    assert link.attributes["title"] == "x" * 199 + "\u2026"
    assert reason in words(page)


def test_dates_at_the_ends_of_time(section: Section) -> None:
    one = section.engines[0]
    assert one.statement is not None
    for date in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"):
        moment = datetime.fromisoformat(date)
        details = one.statement.predicate.run_details
        times = msgspec.structs.replace(details.metadata, started_on=moment, finished_on=moment)
        details = msgspec.structs.replace(details, metadata=times)
        predicate = msgspec.structs.replace(one.statement.predicate, run_details=details)
        statement = msgspec.structs.replace(one.statement, predicate=predicate)
        told = msgspec.structs.replace(one, statement=statement)
        text = words(Page(rendered(msgspec.structs.replace(section, engines=(told,)))))
        assert f"{date[11:19]} UTC{date[19:]}" in text


def test_nothing_is_told_of_a_file_that_is_gone(project: Project) -> None:
    project.engine("plain").unlink()
    section = section_of(project.path)
    gone = next(one for one in section.engines if one.job.name == "plain")
    assert gone.statement is not None  # its proofs are still there
    text = words(Page(rendered(section)))
    assert gone.statement.sha256_hex not in text
    assert "There is no engine file." in text
    there = [one for one in section.engines if one.size is not None]
    assert section.build_s == pytest.approx(sum(one.build_s or 0.0 for one in there), abs=0.001)
    assert section.size == sum(one.size or 0 for one in there)


def test_a_run_of_thousands_of_tasks(section: Section) -> None:
    tasks = tuple(TaskRun(f"t{place}", "done", place, 1.0 + place % 7) for place in range(5000))
    run = LastRun(NOW, (), tasks, {}, None)
    document = rendered(msgspec.structs.replace(section, last_run=run))
    assert len(document) < 400 * len(tasks)
    page = Page(document)
    (wide,) = (one for one in page.all("svg") if one.attributes.get("aria-labelledby", "").startswith("c1-run-wide"))  # fmt: skip
    assert len([one for one in wide.all("text") if one.text.endswith(" s, done")]) == 200
    assert "Bars for 200 tasks of 5000, the longest, over" in wide.text
    text = words(page)
    assert "the longest, 4800 more in the table" in text
    assert "t4999" in text


@pytest.mark.parametrize(
    ("duration_s", "labels"),
    [
        (8.0, {"0 s", "2 s", "8 s"}),
        (600.0, {"0 min", "2 min", "10 min"}),
        (8 * 3600.0, {"0 h", "2 h", "8 h"}),
        (366 * 86400.0, {"0 d", "100 d", "300 d"}),
    ],
)
def test_the_axis_has_round_figures(section: Section, duration_s: float, labels: set[str]) -> None:
    run = LastRun(NOW, (), (TaskRun("plain", "built", 0.0, duration_s),), {}, None)
    svg = Page(timeline(run, "wide", name="x").encode())
    assert labels <= {one.text for one in svg.all("text")}
    assert "Bars for 1 task, over" in svg.all("desc")[0].text


def test_two_hundred_engines(section: Section) -> None:
    one = section.engines[0]
    assert isinstance(one.job, EngineJob)
    many = tuple(
        msgspec.structs.replace(
            one, job=msgspec.structs.replace(one.job, variant=f"t-{place}", target=f"t{place}")
        )
        for place in range(200)
    )
    document = rendered(msgspec.structs.replace(section, engines=many))
    assert len(document) < 1_500_000
    Page(document)


def test_no_engine_there(new_project: Project, built_project: Project) -> None:
    (new_project.path / "corpus.toml").write_text((built_project.path / "corpus.toml").read_text())
    text = words(Page(rendered(section_of(new_project.path))))
    assert "No engine is there yet" in text
    assert "No check was made" in text


def contrast(one: str, two: str) -> float:
    """WCAG 2.2, contrast ratio of two sRGB colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(two)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_of_every_colour_in_both_schemes(section: Section) -> None:
    (style,) = Page(rendered(section)).all("style")
    schemes = [
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))
        for block in re.findall(r"\{[^{}]*--paper:[^{}]*\}", style.text)
    ]
    assert len(schemes) == 3
    assert schemes[1] == schemes[2]  # by the system and by the button
    texts = (
        "ink",
        "muted",
        "link",
        "fresh",
        "stale",
        "missing",
        "damaged",
        "unsigned",
        "elsewhere",
        "left-out",
    )
    shapes = ("bar", "built", "restored", "reused", "done", "failed", "unfinished")
    for scheme in schemes:
        for name in texts:
            assert contrast(scheme[name], scheme["paper"]) >= 4.5, name
            assert contrast(scheme[name], scheme["panel"]) >= 4.5, name
        for name in shapes:
            assert contrast(scheme[name], scheme["paper"]) >= 3, name
