"""`doit report`: the corpora as one HTML page that needs nothing besides itself."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from ..errors import EngineryError
from ..version import __version__
from .corpus_command import DONE, CorpusCommand
from .output_file import check_output, shown, write_output

_SUFFIXES = frozenset({".htm", ".html"})


class ReportCommand(CorpusCommand):
    """Writes the page; builds nothing and changes nothing else."""

    name = "report"
    doc_purpose = "write the state of the corpus, with pictures, as one HTML file"
    doc_usage = "[NAME ...]"
    doc_description = (
        "A NAME is a backbone or the task of an engine; without one it is all of them. The file "
        "loads nothing from anywhere. It takes pip install 'enginery[report]'."
    )
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "name": "output",
            "short": "o",
            "long": "output",
            "type": str,
            "default": "report.html",
            "help": "the file, which is replaced: .html or .htm [default: %(default)s]",
        },
    )

    def _execute(self, output: str) -> int:
        return self.reporting(partial(self._report, Path(output)))

    def _report(self, output: Path) -> int:
        """Write the report."""
        from ..report.contents import gather
        from ..report.page import render
        from ..report.words import count_text

        corpora = self.corpora()
        check_output(output, _SUFFIXES, corpora)
        surveyed = self.survey(self.selected())
        sections = []
        for corpus, jobs in corpora:
            here = [one for one in surveyed if one[0].job.corpus_path == corpus.path]
            if here:
                engines = [engine for engine, _ in here]
                sections.append(gather(corpus, jobs, engines, here[0][1]))
        if not sections:
            raise EngineryError("the corpus has no engine; add a backbone to corpus.toml")
        page = render(sections, version=__version__, now=datetime.now(timezone.utc))
        write_output(output, page)
        told = count_text(len(surveyed), "engine")
        self.say(f"{shown(output)}: {told}, {len(page) / 1e3:.0f} kB")
        return DONE
