"""Tests that code and docs use the field's words, as CONTRIBUTING's glossary lists them."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("benchmarks", "docs", "encoders", "examples", "export", "fusion", "multimodal", "tests")
# names of before, the words not to use, both, and files that an earlier version made
UNREAD = ("CHANGELOG.md", "CONTRIBUTING.md", "tests/test_words.py", "tests/golden/version_0_1")


class Rule(NamedTuple):
    """An old word, as a regular expression over lines, and the term of the glossary that takes its place."""

    pattern: str
    term: str


RATES = "one|once|twice|vectors?|class|labels?|values?|loss(?:es)?|seconds|records|rows|bytes|times?|tokens?|answers?"
RULES = {
    "picture": Rule(r"pictur", "image"),
    "sound": Rule(r"(?<![a-z])sounds?(?![a-z])", "audio"),
    "width": Rule(r"^(?!.*(?:height|pixel)).*?(?<![a-z])widths?(?![a-z])", "dim"),
    # identifiers: the verb, and the plain word in prose, are nobody's term
    "answer": Rule(
        r"^(?!.*def test_).*?(?:\w_answers?\b|\banswers?_\w|\banswers?\b *(?:=[^=]|\.[a-z]|\[|: [A-Za-z]\w*[\[,)])"
        r"|\bAnswers?\b[\[\](),|])",
        "outputs",
    ),
    "weighed": Rule(r"(?<![a-z])weigh(?:ed|_\w+)(?![a-z])", "weighted"),
    "a record": Rule(
        rf"(?<![a-z])(?:{RATES})(?: a (?:record|class|step|batch|epoch|task|input|row)"
        rf"|_a_(?:record|class|step|second|batch|epoch|task|input|row))(?![a-z])",
        "per record",
    ),
    "onlooker": Rule(r"(?i)onlook", "tracker"),
    "trusts": Rule(r"(?<![a-z])trusts(?!(?: it| the| each)|[a-z])", "expert weight"),
    "marks": Rule(r"\.marks\b|modality marks?", "modality embedding"),
    "door": Rule(r"\b(?:Doors?|DOORS?)\b|(?:the|a)[ _]doors?(?![a-z])|\bdoor\.py", "middleware"),
    "null": Rule(r"(?<![a-z])null_[a-z]+|head that knows nothing", "chance loss"),
    "invented": Rule(r"(?<![a-z])invented(?![a-z])", "synthetic"),
    "moved": Rule(r"\bmoved\.py|\bmoved\(|Moved[A-Z]|how far (?:\w+ ){1,4}moved", "weight drift"),
    "parts": Rule(r"(?<!max_)part_size|smaller[ _]parts", "micro-batch"),
    "say": Rule(r"\bSay\b|\bsay\b *(?:[(=)]|: Say)|(?<![a-z])complain|(?<![a-z])announce\b", "log"),
    "aim": Rule(r"\bAim\b|(?<![a-z])aim_|_aim\b", "explanation target"),
    "half": Rule(r"(?:text|image)_half", "tower"),
    "cannot be had": Rule(r"\bbe had\b", "not available"),
    "goes on": Rule(r"(?i)\b(?:go|goes|gone|going) on\b", "resume"),
    "lacks": Rule(r"\black(?:s|ing|ed)?\b", "has no"),
    "write over": Rule(r"\b(?:write|writes|wrote|written|writing) over\b", "overwrite"),
    "shall": Rule(r"\bshall\b", "should"),
}
DOCSTRING = "docstring"  # the rule over first lines
QUESTIONS = ("What", "Whether", "Which", "How", "Those", "As", "Where", "Why", "Who", "When", "If")


class Exempt(NamedTuple):
    """Text that a rule does not see: a quotation, a key of a file, or the word in another sense."""

    rule: str
    path: str
    text: str
    reason: str


EXEMPT = (
    Exempt("width", "", r"[\"'`]width[\"'`]|\bwidth:|tasks\.\w+\.width", "key of a config, a bundle and a gallery"),
    Exempt("width", "encoders/compact", r"\bwidths?\b", "option of the compact encoders, which a config gives"),
    Exempt("width", "", r"(?:half|equal|full)[ -]widths?", "of an interval"),
    Exempt("width", "benchmarks/demo_data", r"\bwidth\b", "of a drawn object, or of a band of frequencies"),
    Exempt("width", "multimodal/explain", r"\bwidth=2", "argument of Pillow"),
    Exempt("picture", "multimodal/explain", r'"pictures"', "key of an explanation"),
    Exempt("picture", "", r"multi-picture", "name of a format (MPO)"),
    Exempt("width", "multimodal/model/embedding_heads.py", r"\bwidth\b", "argument of heads in runs"),
    Exempt("onlooker", "multimodal/trainer", r'"onlooker"', "key of checkpoints"),
    Exempt("parts", "multimodal/trainer", r"_?part_size", "key of checkpoints"),
    Exempt("parts", "tests/multimodal/trainer", r"_?part_size", "key of checkpoints"),
    Exempt("trusts", "", r"[\"']trusts[\"']", "key of metrics.json"),
    Exempt("trusts", "multimodal/runtime/checkpoint.py", r"trusts", "tensors of earlier files"),
    Exempt("marks", "multimodal/runtime/checkpoint.py", r"marks", "tensors of earlier files"),
    Exempt("trusts", "tests/multimodal/runtime/test_checkpoint.py", r"trusts", "tensors of earlier files"),
    Exempt("marks", "tests/multimodal/runtime/test_checkpoint.py", r"marks", "tensors of earlier files"),
    Exempt("sound", "tests", r"[\"'/]sound[\"'.]|\bsound(?=: |=)", "a user's name of an input"),
    Exempt("width", "multimodal/console.py", r"console\.width", "of a terminal"),
    Exempt("answer", "", r"answers\.json|NAME_answer", "file of a bundle; model of a Triton repository"),
    Exempt("invented", "", r'"invented"', "value in golden/answers.json"),
    Exempt("width", "tests/encoders/test_compact.py", r"width", "option of the compact encoders"),
    Exempt("width", "tests/encoders/test_testing.py", r"\bwidth\b", "of images"),
    Exempt("width", "tests/encoders/audio/test_torchaudio.py", r"argument width", "an unknown argument"),
)

# Folder or file -> rules that it still breaks. A rule goes when its room is converted; none is ever added.
UNCONVERTED = {
    "benchmarks": "picture, sound, width, answer, a record, docstring",
    "benchmarks/experiments": "width, answer, a record, docstring",
    "tests": "answer",
    "tests/export": "picture, sound, width, answer, docstring",
    "tests/export/serving": "picture, sound, width, answer, docstring",
    "tests/multimodal": "picture, width, answer, a record",
    "tests/multimodal/config": "picture, width, a record, docstring",
    "tests/multimodal/explain": "picture, sound, width, answer",
    "tests/multimodal/features": "picture, width, answer, weighed, lacks, docstring",
    "tests/multimodal/job": "answer, weighed, goes on, docstring",
    "tests/multimodal/metrics": "width, answer, docstring",
    "tests/multimodal/model": "picture, width, answer",
    "tests/multimodal/selection": "picture, lacks",
    "tests/multimodal/splits": "width, answer",
    "tests/support": "picture, sound, answer, docstring",
}


def source_files() -> list[str]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md")]
    names = sorted(path.relative_to(ROOT).as_posix() for path in (*found, *ROOT.glob("*.md")))
    return [name for name in names if not name.startswith(UNREAD)]


def room_of(name: str) -> str:
    """Folder whose files are converted together, or the file where it lies higher."""
    parts = name.split("/")
    if parts[0] in ("encoders", "fusion", "multimodal", "docs"):
        return "/".join(parts[:2])
    return "/".join(parts[: 3 if parts[0] == "tests" else 2][: len(parts) - 1]) or name


def word_breaches(name: str, text: str) -> list[tuple[str, str]]:
    """Pairs of a rule and the place that breaks it."""
    found = []
    for key, rule in RULES.items():
        if not re.search(rule.pattern, text, re.MULTILINE):
            continue
        allowed = [entry.text for entry in EXEMPT if entry.rule == key and name.startswith(entry.path)]
        for number, line in enumerate(text.splitlines(), start=1):
            left = re.sub("|".join(allowed), "", line) if allowed else line
            if re.search(rule.pattern, left):
                found.append((key, f"{name}:{number}: write {rule.term!r}: {line.strip()}"))
    return found


def public_docstrings(tree: ast.Module) -> list[tuple[int, str]]:
    """Line and text of the docstrings of a module and of its public classes and functions."""
    found, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        text = ast.get_docstring(node)
        if text is not None:
            found.append((getattr(node, "lineno", 1), text))
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and child.name[0] != "_":
                waiting.append(child)
    return found


def docstring_breaches(name: str, text: str) -> list[tuple[str, str]]:
    return [
        (DOCSTRING, f"{name}:{line}: begin with a noun phrase or a verb: {docstring.splitlines()[0]}")
        for line, docstring in public_docstrings(ast.parse(text))
        if docstring.split(None, 1)[0].rstrip(",:") in QUESTIONS
    ]


@cache
def breaches() -> list[tuple[str, str, str]]:
    """Room, rule and place of everything that breaks a rule."""
    found = []
    for name in source_files():
        text = (ROOT / name).read_text(encoding="utf-8")
        pairs = word_breaches(name, text) + (docstring_breaches(name, text) if name.endswith(".py") else [])
        found += [(room_of(name), rule, place) for rule, place in pairs]
    return found


def test_code_and_docs_use_the_words_of_the_glossary():
    new = [place for room, rule, place in breaches() if rule not in UNCONVERTED.get(room, "").split(", ")]
    assert not new, "\n" + "\n".join(new)


def test_no_room_is_listed_as_unconverted_that_is_converted():
    left = {(room, rule) for room, rule, _ in breaches()}
    listed = {(room, rule) for room, rules in UNCONVERTED.items() for rule in rules.split(", ")}
    assert listed <= left, f"take these out of UNCONVERTED: {sorted(listed - left)}"


def test_every_exemption_is_needed():
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in source_files()}
    for entry in EXEMPT:
        assert any(re.search(entry.text, text) for name, text in texts.items() if name.startswith(entry.path)), entry


def test_every_right_word_is_in_the_glossary():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    terms = {term for row in re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE) for term in re.split("[;,] ", row)}
    assert {rule.term for rule in RULES.values()} <= terms


@pytest.mark.parametrize(
    "rule, line",
    [
        ("picture", "def check_picture(data):"),
        ("sound", "# one long sound"),
        ("sound", "def check_sound():"),
        ("width", "def __init__(self, widths):"),
        ("width", "self.output_width = 3"),
        ("answer", "answers = model(batch)"),
        ("answer", "def _read_answers(self):"),
        ("answer", "class Answer(NamedTuple):"),
        ("weighed", "the weighed loss"),
        ("a record", "one vector a record"),
        ("a record", "records_a_class = 3"),
        ("trusts", "head.trusts.copy_(found)"),
        ("say", "def fit(say: Say = silence):"),
        ("lacks", "the model lacks it"),
    ],
)
def test_an_old_word_is_found(rule, line):
    assert [key for key, _ in word_breaches("fusion/new.py", line)] == [rule]


@pytest.mark.parametrize(
    "line",
    [
        "width, height = image.size",
        "import soundfile",
        'config["width"]',
        "bins of equal width",
        "the server answers each request",
        "def test_a_run_answers_as_before():",
        "reads a record, and weighs the classes alike",
        "it has no say",
    ],
)
def test_the_same_letters_in_another_sense_are_not(line):
    assert word_breaches("fusion/new.py", line) == []


def test_first_lines_that_begin_with_a_question_are_found():
    text = '''"""How it works."""
class A:
    """Which one."""
    def b(self):
        """Reads."""
def _c():
    """Why."""
'''
    assert [place for _, place in docstring_breaches("a.py", text)] == [
        "a.py:1: begin with a noun phrase or a verb: How it works.",
        "a.py:2: begin with a noun phrase or a verb: Which one.",
    ]
