"""The house's arrows, read from the symbols of the built objects: what the includes say may still be broken by a declaration by hand,
and calls between the files of one room are seen here alone."""
import os
import re
import subprocess
from collections import defaultdict

import pytest

from rooms import ROOMS, TOP, goes_up, sources

BUILD = os.environ.get("PPFS_BUILD") or str(TOP / "build")
CIRCLE = 3  # so many objects at most may call each other in a circle

# Larger circles that are there. A list may lose objects and no list may be added: who unties one takes it out.
KNOTS = []


def built():
    """{object: source}, for the sources that are there: a build directory keeps objects of files that were moved."""
    found = {}
    for source in sources("*.c"):
        folder, name = os.path.split(source)
        # automake names an object after its program or library, where that has flags of its own
        here = [f for f in os.listdir(os.path.join(BUILD, folder)) if re.fullmatch(rf"(\w+-)?{re.escape(name[:-2])}\.o", f)]
        assert here, f"{source} has no object in {BUILD}: build first, or name it in Makefile.am"
        found.update({os.path.join(BUILD, folder, f): source for f in here})
    return found


def symbols(objects):
    """(source, kind, symbol) of each line of nm. A symbol of kind U is used, one of a capital letter otherwise offered."""
    out = subprocess.run(["nm", "-A", *objects], check=True, capture_output=True, text=True, timeout=60).stdout
    for line in out.splitlines():
        path, rest = line.split(":", 1)
        yield objects[path], rest.split()[-2], rest.split()[-1]


def calls(table):
    """{source: {source it uses: {by which symbols}}}"""
    # main is each program's own, and what stands for a function of libc in ppfs-worker is libc's to all others.
    listed = next(TOP.glob("worker/**/watch.list")).read_text()
    nobodys = {"main", *re.findall(r"^\s*(\w+);", listed, re.MULTILINE)}
    homes = defaultdict(set)
    for source, kind, symbol in table:
        if kind in "TDBRCVWGS" and symbol not in nobodys:
            homes[symbol].add(source)
    graph = defaultdict(lambda: defaultdict(set))
    for source, kind, symbol in table:
        for home in homes.get(symbol, set()) - {source} if kind == "U" else ():
            graph[source][home].add(symbol)
    return graph


def upward(graph):
    """The calls that go up, a sentence each."""
    return [f"{user} uses {', '.join(sorted(names))} of {used}, which is above it"
            for user, uses in sorted(graph.items()) for used, names in sorted(uses.items()) if goes_up(user, used)]


def circles(graph):
    """The strongly connected components of more than CIRCLE objects, as sets."""
    reach = {}
    for start in graph:
        reach[start], ahead = set(), [start]
        while ahead:
            for used in graph.get(ahead.pop(), ()):
                if used not in reach[start]:
                    reach[start].add(used)
                    ahead.append(used)
    found = {frozenset(b for b in reach[a] if a in reach.get(b, ())) for a in graph}
    return [set(c) for c in found if len(c) > CIRCLE]


def new_knots(graph, knots):
    """What of the circles is not in one of the lists, and what of the lists is in no circle any more; a sentence each."""
    there = circles(graph)
    wrong = [f"calls go round in a circle of {len(c)}: {' '.join(sorted(c))}; new are "
             f"{' '.join(sorted(min((c - k for k in knots), key=len, default=c))) or 'none, but two were apart'}"
             for c in there if not any(c <= k for k in knots)]
    untied = set().union(*knots) - set().union(*there)
    return wrong + [f"{source} is in no circle any more: take it out of KNOTS" for source in sorted(untied)]


@pytest.fixture(scope="module")
def graph():
    return calls(list(symbols(built())))


def test_the_graph_is_that_of_the_house(graph):
    assert any("supervisor_run" in names for names in graph["fs/process/main.c"].values())
    assert {user.split("/")[0] for user in graph} == set(ROOMS)


def test_no_call_goes_up(graph):
    wrong = upward(graph)
    assert not wrong, "\n".join(wrong)


def test_no_circle_is_new_and_those_that_are_gone_are_not_listed(graph):
    wrong = new_knots(graph, KNOTS)
    assert not wrong, "\n".join(wrong)


def test_a_call_that_goes_up_is_found():
    table = [("net/session/link.c", "U", "sched_turn"), ("sched/sched.c", "T", "sched_turn"), ("fs/process/main.c", "U", "sched_turn")]
    assert upward(calls(table)) == ["net/session/link.c uses sched_turn of sched/sched.c, which is above it"]


def ring(*names):
    return {name: {names[i - 1]: {"f"}} for i, name in enumerate(names)}


def test_a_circle_is_found():
    assert circles(ring("a", "b", "c")) == []
    four = ring("a", "b", "c", "d")
    assert len(new_knots(four, [])) == 1
    assert new_knots(four, [{"a", "b", "c", "d"}]) == []
    assert len(new_knots(four, [{"a", "b", "c"}])) == 1, "one joined"
    assert len(new_knots(four, [{"a", "b"}, {"c", "d"}])) == 1, "two became one"
    assert new_knots(four, [{"a", "b", "c", "d", "e"}]) == ["e is in no circle any more: take it out of KNOTS"]
