"""Files that the documents name are there: a path from the top or from the document's folder, a bare name anywhere below it."""
import re

import pytest

from rooms import TOP

DOCUMENTS = sorted(p for p in TOP.rglob("*.md") if not any(part.startswith(("build", "clangb", ".")) for part in p.relative_to(TOP).parts))
NAMED = re.compile(r"`([\w./*-]+\.(?:[ch]|sh|list|md)|(?:fs|sched|worker|net|scripts|tests|man)/[\w./-]*)`")
LINKED = re.compile(r"\]\(([^)#:]+)\)")
OTHERS = {"Python.h", "sqlite3.h"}  # of the libraries


def is_there(document, name):
    folder = document.parent
    return any(any(start.glob(name)) for start in (TOP, folder) if name) or "/" not in name and any(folder.rglob(name))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(TOP)))
def test_what_it_names_is_there(document):
    text = document.read_text()
    named = NAMED.findall(text) + LINKED.findall(text)
    assert [name for name in dict.fromkeys(named) if name not in OTHERS and not is_there(document, name)] == []


def test_a_name_of_nothing_is_found():
    assert is_there(TOP / "fs/README.md", "loop.c") and is_there(TOP / "README.md", "fs/README.md")
    assert not is_there(TOP / "fs/README.md", "dispatch.c") and not is_there(TOP / "README.md", "fs/loop.c")
