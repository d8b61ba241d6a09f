"""Every Python block of README.md runs, one program after the other on one mount, and prints what its `#= words`
say."""
import re

import pytest

import conftest


def blocks():
    text = (conftest.SCRIPTS.parent / "README.md").read_text()
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_readme(run):
    programs = blocks()
    if not programs:
        pytest.skip("README.md has no Python block")
    assert len(programs) >= 5
    for program in programs:
        expected = [words.strip() for words in re.findall(r"#= (.*)$", program, re.MULTILINE)]
        if "joblib" in program:
            pytest.importorskip("joblib")
        assert run(program).splitlines() == expected, program
