"""Words and phrases that were replaced by plain English do not come back in the documentation or in comments."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import CSRC, ROOT

REPLACEMENTS = {  # regular expressions that match whole words, and what to write instead
    # Names of things
    r"rooms|(?:a|the|one|each|every|this|same|other) room(?! for)": "module, package",
    r"houses?": "package, project",
    r"doors?": "entry point",
    r"floors|(?:a|the|its|their|below|above|under) floor(?! of)": "minimum",
    r"(?:an|the|its|their|below|above|and) aims?": "target",
    r"twins?": "functional variant",
    r"bare stores?": "store bandwidth",
    r"(?:fresh|warm) (?:pages?|memory|arrays?)": "newly allocated memory, already touched memory",
    r"crews?": "worker threads",
    r"dismiss(?:es|ed)?": "join",
    r"sinks?": "streaming-store buffer",
    r"verbs?": "vector operation",
    r"made independent": "without dependencies",
    r"peers(?!\.md)": "other libraries",
    r"second implementation": "reference implementation",
    r"(?:memory|buffer) that was touched before": "already touched memory",
    r"the speed of memory": "a share of the store bandwidth",
    r"typing errors?": "typo",
    # Verbs that personify code or leave out the subject
    r"told": "reported, printed, passed",
    r"tells(?!(?: \w+)* apart)": "says, reports, returns",
    r"asks|asked": "requests, calls; requested",
    r"refus(?:e|es|ed|ing|als?)": "raises an error",
    r"drawn (?:from|into|in|at|by|as|for|again)|(?:values|words|numbers|weights|elements) drawn": "sampled, generated",
    r"ha(?:s|ve) (?:its|their|a|no) say": "affects",
    r"wants to (?:see|be|have)": "needs, requires",
    r"bites?": "detects",
    r"ours|theirs": "fastkaiming's, torch's; the library's",
    # Idioms
    r"whoever": "if you; every ... that",
    r"(?:for|of|to|by|from) who": "for users who, for those who",
    r"stands? (?:in|on|there|here|beside|below|above)": "is in, is on",
    r"held against": "compared with",
    r"hangs? on": "depends on",
    r"at hand": "available",
    r"anew": "again",
    r"thrice": "three times",
    r"(?:ns|nanoseconds|seconds|cycles|instructions|GB/s|bytes) an? (?:element|word|call)": "per element, per word",
    r"lanes of steps": "groups of steps in parallel",
}
RULES = [  # words may be separated by a line break
    (re.compile(rf"(?<![\w-])(?:{words})(?![\w-])".replace(" ", r"\s+"), re.IGNORECASE), instead)
    for words, instead in REPLACEMENTS.items()
]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON_FILES = [
    *sorted(path for folder in ("fastkaiming", "benchmarks") for path in (ROOT / folder).rglob("*.py")),
    CSRC.parent / "_core.pyi",
]
CORE_FILES = sorted(
    [*(path for path in CSRC.rglob("*") if path.suffix in {".c", ".h", ".inc"}), *CSRC.parent.glob("_*.p[xy][xi]")]
)

CODE_BLOCK = re.compile(r"^( *)(```|~~~).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
ADDRESS = re.compile(r"\]\([^)]*\)|<[^>\s]*>|https?://\S+")
C_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
CYTHON_COMMENT = re.compile(r'(?<!["\'])#[^\n]*|"""(.*?)"""', re.DOTALL)

Text = tuple[int, str]  # the number of its first line, and the text


def blanked(pattern: re.Pattern[str], text: str) -> str:
    """Return the text with all matches removed, but with the same lines."""
    return pattern.sub(lambda match: "\n" * match[0].count("\n"), text)


def page_texts(page: str) -> Iterator[Text]:
    """Yield the prose of a page in Markdown: everything except code and addresses."""
    for pattern in (CODE_BLOCK, INLINE_CODE, ADDRESS):
        page = blanked(pattern, page)
    yield 1, page


def python_texts(source: str) -> Iterator[Text]:
    """Yield the docstrings and comments of a Python file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first.lineno, blanked(INLINE_CODE, str(first.value.value))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], blanked(INLINE_CODE, token.string)


def core_texts(source: str) -> Iterator[Text]:
    """Yield the comments of a C file, or the comments and docstrings of a Cython file."""
    for pattern in (C_COMMENT, CYTHON_COMMENT):
        for comment in pattern.finditer(source):
            yield source.count("\n", 0, comment.start()) + 1, blanked(INLINE_CODE, comment[0])


def replaced_words(text: Text) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the words and the replacement for each match."""
    first, words = text
    words = re.sub(r"\n[ \t]*(?:\*|#|//)[ \t]*", "\n", words)  # without the marks of comments
    for rule, instead in RULES:
        for match in rule.finditer(words):
            yield first + words.count("\n", 0, match.start()), " ".join(match[0].split()), instead


def report(path: Path, texts: Iterator[Text]) -> list[str]:
    """Return a line for each match in a file."""
    found = {match for text in texts for match in replaced_words(text)}
    name = path.relative_to(ROOT)
    return [f"{name}:{line}: {words!r}, better: {instead}" for line, words, instead in sorted(found)]


def test_pages_use_plain_english() -> None:
    assert [line for page in PAGES for line in report(page, page_texts(page.read_text("utf-8")))] == []


def test_docstrings_and_comments_use_plain_english() -> None:
    assert [line for path in PYTHON_FILES for line in report(path, python_texts(path.read_text("utf-8")))] == []


def test_comments_of_the_core_use_plain_english() -> None:
    assert [line for path in CORE_FILES for line in report(path, core_texts(path.read_text("utf-8")))] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Each file is one room.", ["one room"]),
        ("This leaves room for errors in the bathroom.", []),
        ("The time is below the\nfloor.", ["the floor"]),
        ("k is the floor of x.", []),
        ("2 ns an element", ["ns an element"]),
        ("Weights\n    drawn from it", ["Weights drawn"]),
        ("The curve is drawn with a dashed line.", []),
        ("Colours that readers can tell apart", []),
        ("See [the page](peers.md) and `twin`.", []),
        ("```sh\npip install --group peers\n```", []),
    ],
)
def test_rules_match_whole_phrases(text: str, found: list[str]) -> None:
    matches = {words for part in page_texts(text) for _, words, _ in replaced_words(part)}
    assert sorted(matches) == sorted(found)
