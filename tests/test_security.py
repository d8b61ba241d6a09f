"""SECURITY.md names files and tests, and is named where people look: all of that is there."""
import pathlib
import re

TOP = pathlib.Path(__file__).resolve().parent.parent
TEXT = (TOP / "SECURITY.md").read_text()


def test_what_it_names_is_there():
    named = re.findall(r"`((?:fs|sched|worker|net|scripts|tests)/[\w./-]*)`", TEXT)
    assert len(named) > 20 and [path for path in named if not (TOP / path).exists()] == []
    for path in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (TOP / path).exists(), path


def test_where_it_is_linked():
    assert "(SECURITY.md)" in (TOP / "README.md").read_text()
    assert "SECURITY.md" in (TOP / "man/ppfs.1").read_text()
