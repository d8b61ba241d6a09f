"""A reader sees a file as a whole: no header over 120 lines, no other file of code over 500, tests among them."""
from rooms import TOP

FOLDERS = ("fs", "sched", "worker", "net", "scripts", "tests")
HEADER, FILE = 120, 500  # lines

# Files that are larger. The list may only shrink: who shortens one takes it out.
OVER = set("""
    tests/fuzz/fuzz_session.c
    tests/unit/netrig.h tests/unit/noderig.h tests/unit/poolrig.h tests/unit/test_lease.c tests/unit/test_peer.c
    tests/unit/test_pool.c tests/unit/test_remote_ends.c tests/unit/test_session.c tests/unit/test_slots.c
    """.split())


def is_code(file):
    return file.is_file() and (file.suffix in (".c", ".h", ".py", ".sh") or file.parent == TOP / "scripts" and not file.suffix)


def too_long(file, text):
    return len(text.splitlines()) > (HEADER if file.suffix == ".h" else FILE)


def test_no_other_file_is_too_long():
    files = [p for folder in FOLDERS for p in (TOP / folder).rglob("*") if is_code(p)]
    assert len(files) > 300
    over = {str(p.relative_to(TOP)) for p in files if too_long(p, p.read_text())}
    assert sorted(over - OVER) == [], "split these along a seam"
    assert sorted(OVER - over) == [], "short by now, or gone: take these out of OVER"


def test_a_long_file_is_found():
    assert too_long(TOP / "a.h", "\n" * 121) and not too_long(TOP / "a.h", "\n" * 120)
    assert too_long(TOP / "a.py", "\n" * 501) and not too_long(TOP / "a.c", "\n" * 500)
