"""Every Python block of README.md and GUIDE.md runs as it stands there, one program after the other on one mount, and prints what
its `#= words` say and nothing else."""
import re

import pytest

import conftest
from ppfsmount import need_module


def blocks():
    text = "".join((conftest.SCRIPTS.parent / name).read_text() for name in ("README.md", "GUIDE.md"))
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_readme(run):
    programs = blocks()
    assert len(programs) >= 6, "a Python section is lost"
    for program in programs:
        expected = [words.strip() for words in re.findall(r"#= (.*)$", program, re.MULTILINE)]
        if "joblib" in program:
            need_module("joblib")
        assert run(program).splitlines() == expected, program
