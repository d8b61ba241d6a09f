"""A job that waits for others lends its slot out, however many it waits for."""



def test_one_slot_and_three_results_at_once(m):
    (m.node / "cpus").write_text("1")
    parts = "".join("printf '#!/bin/sh\\necho %s\\n' > %s\n" % (n, m.jobs / n) for n in "abc")
    reads = "".join("cat %s > %s &\n" % (m.results / n, m.work / n) for n in "abc")
    m.put("outer", "#!/bin/sh\n" + parts + reads + "wait\necho all\n")
    assert m.result("outer") == b"all\n"
    assert [(m.work / n).read_text() for n in "abc"] == ["a\n", "b\n", "c\n"]


def test_nested_ten_deep_on_one_slot(m):
    (m.node / "cpus").write_text("1")
    m.put("j0", "print(0)\n")
    for i in range(1, 11):
        m.put("j%d" % i, "print(int(open('%s').read()) + 1)\n" % (m.results / ("j%d" % (i - 1))))
    assert m.result("j10") == b"10\n"
