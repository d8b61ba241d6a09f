"""Every Python block of README.md runs as it stands there, one program after the other on one mount, and prints what
its `#= words` say and nothing else."""
import re

import pytest

import conftest
from ppfsmount import need_module


def blocks():
    text = (conftest.SCRIPTS.parent / "README.md").read_text()
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_readme(run):
    programs = blocks()
    assert len(programs) >= 5, "README.md has lost its Python section"
    for program in programs:
        expected = [words.strip() for words in re.findall(r"#= (.*)$", program, re.MULTILINE)]
        if "joblib" in program:
            need_module("joblib")
        assert run(program).splitlines() == expected, program
