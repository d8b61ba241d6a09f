"""A reader sees a file as a whole: no header over 120 lines, no other file of code over 500, tests among them; and no
conditional expression inside another."""
import re

import pytest

from rooms import TOP

FOLDERS = ("fs", "sched", "worker", "net", "scripts", "tests")
HEADER, FILE = 120, 500  # lines


def is_code(file):
    return file.is_file() and (file.suffix in (".c", ".h", ".py", ".sh") or file.parent == TOP / "scripts" and not file.suffix)


def too_long(file, text):
    return len(text.splitlines()) > (HEADER if file.suffix == ".h" else FILE)


def test_no_file_is_too_long():
    files = [p for folder in FOLDERS for p in (TOP / folder).rglob("*") if is_code(p)]
    assert len(files) > 300
    assert [str(p.relative_to(TOP)) for p in files if too_long(p, p.read_text())] == [], "split these along a seam"


def test_a_long_file_is_found():
    assert too_long(TOP / "a.h", "\n" * 121) and not too_long(TOP / "a.h", "\n" * 120)
    assert too_long(TOP / "a.py", "\n" * 501) and not too_long(TOP / "a.c", "\n" * 500)


TOKEN = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|^[ \t]*#(?:\\\n|[^\n])*|.""", re.DOTALL | re.MULTILINE)


def nested_conditionals(text):
    """The numbers of the lines of C with a ?: inside another one."""
    lines, line, open_ones = [], 1, [0]  # how many ?: each bracket around has begun
    for token in (m[0] for m in TOKEN.finditer(text)):
        if token in "([{":
            open_ones.append(0)
        elif token in ")]}" and len(open_ones) > 1:
            open_ones.pop()
        elif token in ";,":
            open_ones[-1] = 0
        elif token == "?":
            if any(open_ones):
                lines.append(line)
            open_ones[-1] += 1
        line += token.count("\n")
    return lines


def test_no_conditional_in_another():
    files = [p for p in TOP.glob("*/**/*.[ch]") if p.relative_to(TOP).parts[0] in FOLDERS]
    assert len(files) > 300
    assert [f"{p.relative_to(TOP)}:{line}" for p in files for line in nested_conditionals(p.read_text())] == [], "write an if"


@pytest.mark.parametrize("text, lines", [
    ("x = a ? b : c ? d : e;", [1]),
    ("x = a ? b\n      : f(y, c ? d : e);", [2]),
    ("x = a ? (b ? c : d) : e;", [1]),
    ("int x = a ? b : c, y = d ? e : f; f(a ? b : c, d ? e : f); if (a ? b : c) return d ? e : f;", []),
    ("/* a ? b : c ? */ x = a ? '?' : \"? :\"; // ? ?", []),
])
def test_a_conditional_in_another_is_found(text, lines):
    assert nested_conditionals(text) == lines


COLUMNS = 120


def wide(text):
    """The numbers of the lines that are too wide, but for the tables that clang-format leaves alone."""
    on, lines = True, []
    for number, line in enumerate(text.splitlines(), 1):
        on = "clang-format on" in line or on and "clang-format off" not in line
        if on and len(line) > COLUMNS:
            lines.append(number)
    return lines


def test_no_line_is_too_wide():
    files = [p for folder in FOLDERS for p in (TOP / folder).rglob("*.[ch]")]
    assert [(str(p.relative_to(TOP)), n) for p in files for n in wide(p.read_text())] == []


def test_a_wide_line_is_found():
    line = "x" * 121 + "\n"
    assert wide("/* clang-format off */\n" + line + "/* clang-format on */\n" + line + line[1:]) == [4]
