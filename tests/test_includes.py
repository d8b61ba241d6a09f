"""The house's arrows, read from its includes: fs -> sched -> worker -> net, those between the sub-rooms of each (rooms.py), and each
library only in its room; and what else no compiler sees."""
import re

import pytest

from rooms import ROOMS, TOP, floor, floors, goes_up, sources

LIBRARIES = [  # (header, files that may include it)
    (r"Python\.h", r"worker/forkserver/python.*"),
    (r"sqlite3\.h", r"sched/db/store[^/]*\.c|sched/db/store_sql\.h"),
    (r"sched/db/store_(int|sql)\.h", r"sched/db/store[^/]*\.c|sched/db/store_int\.h"),  # what the files of the store share, sqlite3.h with it
    (r"openssl/.*", r"net/tls/.*|net/digest\.c"),
    (r"cap-ng\.h", r"net/privileges\.c"),
    (r"seccomp\.h", r"net/untrusted/jail\.c"),
    (r"fuse_lowlevel\.h|fuse3/.*|fuse\.h", r"fs/.*"),
]
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)


def wrong_includes(name, text):
    """What is wrong with the includes of the file called name (its path from the top), a sentence each."""
    wrong = []
    for quote, header in INCLUDE.findall(text):
        if header.endswith("/state.h") and header.startswith("sched/") and not (name.endswith(".c") and floor(header) == floor(name)):
            wrong.append(f"{name} includes {header}, which is for the .c files of {floor(header)} alone")
        if floor(header) and goes_up(name, header):
            wrong.append(f"{name} includes {header}: no arrow runs from {floor(name)} to {floor(header)}")
        if quote == '"' and not floor(header):
            wrong.append(f'{name} includes "{header}": headers of the house are named from the top, as "{floor(name)}/{header}"')
        for library, allowed in LIBRARIES:
            if re.fullmatch(library, header) and not re.fullmatch(allowed, name):
                wrong.append(f"{name} includes {header}, which belongs in {allowed}")
    return wrong


@pytest.mark.parametrize("room", ROOMS)
def test_room_keeps_to_its_arrows(room):
    files = [name for name in sources("*.[ch]") if name.startswith(room + "/")]
    assert files, f"no sources in {room}/"
    assert [name for name in files if floor(name) is None] == [], "in a folder that rooms.py does not know"
    assert [w for name in files for w in wrong_includes(name, (TOP / name).read_text())] == []


@pytest.mark.parametrize("room", ROOMS)
def test_each_sub_room_has_sources(room):
    assert {floor(name) for name in sources("*.c")} >= {name for name in floors() if name.split("/")[0] == room}


@pytest.mark.parametrize("name, line", [
    ("sched/dispatch/queue.c", '#include "fs/session/wait.h"'),
    ("net/session/link.c", '#include "worker/runner/work.h"'),
    ("worker/pool/pool.c", '#  include <sched/job/job.h>'),
    ("sched/dispatch/queue.c", "#include <sqlite3.h>"),
    ("sched/db/store.h", "#include <sqlite3.h>"),
    ("sched/dispatch/queue.c", '#include "sched/db/store_int.h"'),
    ("fs/process/main.c", "#include <Python.h>"),
    ("worker/pool/pool.c", "#include <openssl/ssl.h>"),
    ("sched/sched.c", "#include <fuse_lowlevel.h>"),
    ("worker/pool/pool.c", '#include "../net/session/frame.h"'),
    ("worker/pool/pool.c", '#include "pool.h"'),
    ("sched/dispatch/lend.c", '#include "sched/leases/state.h"'),
    ("sched/leases/lease.h", '#include "sched/leases/state.h"'),
])
def test_a_wrong_include_is_found(name, line):
    assert wrong_includes(name, f"#include <stdio.h>\n{line}\nint x;\n")


@pytest.mark.parametrize("name, line", [
    ("fs/process/main.c", '#include "net/session/frame.h"'),
    ("sched/db/store_jobs.c", "#include <sqlite3.h>"),
    ("sched/leases/lease.c", '#include "sched/leases/state.h"'),
    ("worker/forkserver/python.c", "#include <Python.h>"),
    ("fs/tree/ops.c", "#include <fuse_lowlevel.h>"),
])
def test_a_right_include_is_not(name, line):
    assert wrong_includes(name, line + "\n") == []


def test_the_archive_has_all_tests():
    listed = (TOP / "Makefile.am").read_text().split()
    tests = [str(p.relative_to(TOP)) for p in sorted((TOP / "tests").rglob("*.py"))]
    assert [name for name in tests if name not in listed] == []
