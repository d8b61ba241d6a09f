"""Files that documents and comments name are there: a path from the top or from the folder that names it, a bare name anywhere below."""
import re

import pytest

from rooms import TOP, sources

BUILT = ("build", "clangb", ".")
FILES = [p for p in sorted(TOP.rglob("*")) if p.is_file() and not any(part.startswith(BUILT) for part in p.relative_to(TOP).parts)]
NAMES = {p.name for p in FILES}
DOCUMENTS = [p for p in FILES if p.suffix == ".md"]
NAMED = re.compile(r"`([\w./*-]+\.(?:[ch]|sh|list|md)|(?:fs|sched|worker|net|scripts|tests|man)/[\w./-]*)`")
LINKED = re.compile(r"\]\(([^)#:]+)\)")
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
IN_COMMENT = re.compile(r"(?<![\w./])[a-z_]\w*\.(?:[ch]|py)\b")
DOCUMENT = re.compile(r"\b[\w/-]+\.md\b")
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


def missing(text):
    """The files that the comments of a C source name and that are nowhere."""
    return [name for comment in COMMENT.findall(text) for name in IN_COMMENT.findall(comment) if name not in NAMES | OTHERS]


def test_files_that_comments_name_are_there():
    assert missing("/* as loop.c */ x = 1; /* see nowhere.c */") == ["nowhere.c"]
    wrong = {source: missing((TOP / source).read_text()) for source in sources("*.[ch]")}
    assert {source: names for source, names in wrong.items() if names} == {}


def test_no_source_cites_a_document_that_is_not_here():
    """README.md is that of the source's own folder, in tests also that of the top."""
    wrong = []
    for file in FILES:
        if file.suffix in (".c", ".h", ".py", ".sh") and file.name != "test_documents.py":
            folders = {file.parent, TOP if TOP / "tests" in file.parents else file.parent}
            wrong += [f"{file.relative_to(TOP)}: {name}" for name in DOCUMENT.findall(file.read_text())
                      if not any((folder / name).exists() for folder in (folders if name == "README.md" else {TOP}))]
    assert wrong == []


def test_man_pages_that_are_cited_are_there():
    for file in FILES:
        if file.suffix in (".c", ".h", ".py", ".md", ".1", ".5", ".8"):
            for name, section in re.findall(r"\b((?:mount\.)?ppfs(?:-\w+)?)\((\d)\)", file.read_text()):
                assert (TOP / f"man/{name}.{section}").exists(), f"{file.relative_to(TOP)}: {name}({section})"
