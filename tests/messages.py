"""Compares docs/messages.md with the messages of the source.

`python tests/messages.py` prints what the page lacks, as rows to be completed there, and what it
lists that is gone; nothing where all is well. tests/test_messages.py wants nothing printed.
tests/message_collector.py says what a message is.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

from message_collector import Collector
from message_syntax import key_of

_REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = _REPOSITORY / "src" / "enginery"
PAGE = _REPOSITORY / "docs" / "messages.md"

_ROW = re.compile(r"^\| (`.+?`) \| (.+) \| (.+) \|$", re.MULTILINE)
_TEMPLATE = re.compile(r"(`+) ?(.+?) ?\1(?!`)")


def listed(page: str) -> list[str]:
    """The templates that the page lists: its tables' first column."""
    found = (text for cell, _, _ in rows(page) for _, text in _TEMPLATE.findall(cell))
    return [text.replace(r"\|", "|") for text in found]


def rows(page: str) -> list[tuple[str, str, str]]:
    """Messages, cause and remedy of every entry of the page."""
    return _ROW.findall(page)


def row(template: str) -> str:
    """The row of the page for a message, its cause and remedy still to be written."""
    text = template.replace("|", r"\|")
    return f"| `` {text} `` | | |" if "`" in text else f"| `{text}` | | |"


def differences(source: Path, page: str) -> list[str]:
    """What is wrong with the page, and what of the source no rule could read; a line each."""
    collector, templates = Collector(source), listed(page)
    there = {key_of(template): template for template in templates}
    lines = []
    for key, one in sorted(collector.messages.items(), key=lambda item: item[1].place):
        if key not in there:
            lines.append(f"missing, from {one.module}:{one.line}:\n{row(one.template)}")
    lines += (f"gone: {there[key]}" for key in there if key not in collector.messages)
    counted = Counter(map(key_of, templates))
    lines += (f"twice: {there[key]}" for key, count in counted.items() if count > 1)
    lines += (f"unread: {text}" for text in collector.unread)
    return lines


if __name__ == "__main__":
    found = differences(SOURCE, PAGE.read_text("utf-8"))
    sys.stdout.write("".join(f"{line}\n" for line in found))
    sys.exit(1 if found else 0)
