"""The examples in README.md and in docs/ print what they say they print."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = re.compile(r"^```pycon\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [page for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))] if EXAMPLE.search(page.read_text())]


def test_readme_has_examples() -> None:
    assert ROOT / "README.md" in PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_print_what_they_say(page: Path) -> None:
    text = page.read_text()
    runner = doctest.DocTestRunner()
    names: dict[str, object] = {}
    for example in EXAMPLE.finditer(text):
        line = text.count("\n", 0, example.start(1))
        case = doctest.DocTestParser().get_doctest(example[1], names, page.name, str(page), line)
        runner.run(case, clear_globs=False)
        names = case.globs
    assert runner.summarize(verbose=False).failed == 0
