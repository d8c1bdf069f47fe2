"""docs/messages.md has every message that a user can meet, and no other."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from message_places import RESULTS
from message_syntax import FunctionNode
from messages import PAGE, SOURCE, differences, listed, row, rows

ERRORS = """
class EngineryError(Exception): ...
class EngineBuildError(EngineryError): ...
"""


@pytest.fixture
def found(tmp_path: Path):
    """What `differences` finds for a package of one module, and a page that lists templates."""

    def compare(module: str, *templates: str) -> list[str]:
        (tmp_path / "errors.py").write_text(ERRORS, "utf-8")
        (tmp_path / "build.py").write_text(module, "utf-8")
        page = "".join(row(text).replace("| | |", "| a | b |") + "\n" for text in templates)
        return differences(tmp_path, page)

    return compare


def test_the_page_has_every_message_and_no_other():
    assert differences(SOURCE, PAGE.read_text("utf-8")) == []


def test_every_entry_has_cause_and_remedy_in_sentences():
    page = PAGE.read_text("utf-8")
    for messages, cause, remedy in rows(page):
        for text in (cause, remedy):
            # A sentence begins with a capital, or with a name that has none.
            assert re.match(r"[A-Z`]|(int8|enginery|doit)\b", text), (messages, text)
            assert text.endswith("."), (messages, text)
        assert len(cause.split()) >= 3, messages
    # A row that the pattern does not take would go unseen.
    tables = [line for line in page.splitlines() if line.startswith("|")]
    heads = [line for line in tables if line.startswith(("| message |", "| --- |"))]
    assert len(rows(page)) == len(tables) - len(heads)
    assert len(listed(page)) > 500


def test_sections_and_links_of_the_page_lead_somewhere():
    page = PAGE.read_text("utf-8")
    anchors = {
        "#" + re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-")
        for head in re.findall(r"^## (.+)$", page, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", page):
        assert target in anchors or (PAGE.parent / target).is_file(), target


def test_the_tables_of_the_collector_name_functions_that_are_there():
    for module, names in RESULTS.items():
        tree = ast.parse((SOURCE / module).read_text("utf-8"))
        there = {node.name for node in ast.walk(tree) if isinstance(node, FunctionNode)}
        assert names <= there, module


def test_a_new_message_is_missed_on_the_page(found):
    module = 'raise EngineBuildError("the engine is too hot; cool it")'

    assert found(module) == [
        "missing, from build.py:1:\n| `the engine is too hot; cool it` | | |",
    ]
    assert found(module, "the engine is too hot; cool it") == []


def test_a_message_that_is_gone_is_told(found):
    assert found("", "the engine is too hot; cool it") == ["gone: the engine is too hot; cool it"]


def test_a_message_that_is_listed_twice_is_told(found):
    module = 'raise EngineBuildError(f"{path} is too hot")'

    assert found(module, "{path} is too hot", "{engine} is too hot") == [
        "twice: {engine} is too hot"
    ]


def test_two_rows_of_a_page_are_found_by_its_first_column():
    page = "| message | cause | remedy |\n| `a {b} c`<br>`` `d` e \\| f `` | cause | remedy `g` |\n"

    assert listed(page) == ["a {b} c", "`d` e | f"]


@pytest.mark.parametrize(
    ("module", "template"),
    [
        ('raise EngineryError("one " "two")', "one two"),
        ('raise EngineryError(f"{path.name} has no {what!r}")', "{path} has no {what}"),
        ('raise EngineryError("one " + str(x) + " two")', "one {x} two"),
        ('text = f"one {x}"\nraise EngineryError(text)', "one {x}"),
        ('TEXT = "one two"\ndef f():\n    raise EngineryError(TEXT)', "one two"),
        ('raise EngineryError("one {} two".format(3))', "one {} two"),
        ('raise EngineryError("; ".join(("one two",)))', "one two"),
        ('def f(kind):\n    raise kind("one two")', "one two"),
        ('def fail(text):\n    raise EngineryError(text)\nfail("one two")', "one two"),
        ('def f() -> str:\n    return "one two"\nraise EngineryError(f())', "one two"),
        ('error = EngineryError("one two")\nraise error', "one two"),
        ('class E(EngineryError):\n    def __init__(self):\n        super().__init__("a bee")', "a bee"),
        ('class E(EngineBuildError): ...\nraise E("one two")', "one two"),
        ('Verdict(fault, "one two")', "one two"),
        ('sys.stderr.write("one two\\n")', "one two"),
        ('self.warn("one two")', "one two"),
        ('raise ValueError("one two")', "one two"),
    ],
)  # fmt: skip
def test_a_message_is_found_however_it_is_written(found, module, template):
    assert [line.partition("\n")[2] for line in found(module)] == [row(template)]


def test_both_sides_of_a_choice_are_messages(found):
    module = "raise EngineryError(f\"it is {'too hot' if x else 'too cold'}\")"

    assert found(module, "it is too hot", "it is too cold") == []
    assert len(found(module)) == 2


def test_a_phrase_inside_a_message_is_an_entry(found):
    module = (
        "def _reason(x) -> str:\n"
        '    return "the driver is gone" if x else "?"\n'
        'raise EngineryError(f"no GPU here: {_reason(1)}; start it")\n'
    )

    assert found(module, "no GPU here: {reason}; start it", "the driver is gone") == []


@pytest.mark.parametrize(
    "statement",
    [
        'raise EngineBuildError("one two %s" % three)',
        "raise EngineBuildError(self.text)",
        "raise EngineBuildError(some.package())",
        "raise EngineBuildError()",
        'raise EngineBuildError(text="one two three four")',
        'raise made_elsewhere[0]("one two three four".upper())',
    ],
)
def test_a_message_that_cannot_be_read_is_told(found, statement):
    assert any(line.startswith("unread: build.py:1: ") for line in found(statement))


def test_an_error_that_passes_words_on_has_no_entry(found):
    module = "try:\n    pass\nexcept OSError as error:\n    raise EngineryError(str(error))\n"

    assert found(module) == []


def test_the_command_prints_nothing_where_the_page_is_complete():
    done = subprocess.run(
        [sys.executable, PAGE.parents[1] / "tests" / "messages.py"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
