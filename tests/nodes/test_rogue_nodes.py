"""What a node that says what it likes can do to the ppfs and to other nodes with the same key."""
import pytest
from noderig import value
from ppfsmount import sanitized, wait_until
from rogue import WELCOME, Rogue, network_process


@pytest.fixture
def rm(new_mount, base):
    return new_mount(cpus=0, options=["--listen", "127.0.0.1:0", "--silence", "600"], env=network_process(base)).start()


@pytest.fixture
def come(rm, base):
    """Takes the names that so many say, each from another address, and returns those that they get."""
    def come(*names):
        new = [Rogue(base, "10.0.%d.%d" % divmod(len(come.there) + i, 250)) for i in range(len(names))]
        for rogue, name in zip(new, names):
            rogue.about(name)
        come.there += new
        return [rogue.hear(WELCOME).decode() for rogue in new]
    come.there = []
    return come


def test_thousands_of_one_name_are_numbered_and_cost_no_more_than_others(rm, come):
    """With a look at all names for each number that is tried this takes minutes, in which nothing else is done."""
    count = 300 if sanitized() else 2500
    names = come(*["x"] * count)
    assert sorted(names) == sorted(["x"] + ["x-%d" % n for n in range(2, count + 1)])
    come.there[names.index("x-7")].socket.close()
    come.there[names.index("x-9")].send(41, b"")  # GOODBYE
    wait_until(lambda: value(rm, "x-9", "state") == "down", "it to leave")
    assert come("x") == ["x-9"]
    rm.put("s.sh", "#!/bin/sh\necho hello")
    (rm.node / "cpus").write_text("1\n")
    for rogue in come.there:
        rogue.socket.close()
    assert rm.result("s.sh") == b"hello\n"


def test_names_with_numbers(come):
    long = "n" * 63
    assert come("local") == ["local-2"]
    assert [come(name)[0] for name in ("a-2", "a", "a", "a-02", "a-2", "a-2", long, long)] == [
        "a-2", "a", "a-3", "a-02", "a-2-2", "a-2-3", long, "n" * 50 + "-2"]
