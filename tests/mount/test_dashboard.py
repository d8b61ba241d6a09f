"""ppfs(5): dashboard.html, what is in it and what a browser makes of it."""
import base64
import hashlib
import json
import os
import re
import subprocess

import pytest
from ppfsmount import TOP, need_programs, wait_until

EVIL = "<img src=x onerror=document.title=666>"


def page(m):
    return (m.mnt / "dashboard.html").read_text()


def size(m):
    return len((m.mnt / "dashboard.html").read_bytes())


def data(text):
    """What the page shows."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def shown(m, what, key):
    return [one[key] for one in data(page(m))[what]]


def dom(m, width=1280):
    """The page's elements after its script has run in a browser."""
    need_programs("chromium")
    p = subprocess.run(["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--user-data-dir=%s" % (m.work / "chromium"),
                        "--window-size=%d,800" % width, "--virtual-time-budget=2000", "--dump-dom", (m.mnt / "dashboard.html").as_uri()],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=100)
    assert p.returncode == 0, p.stderr
    assert "Content Security Policy" not in p.stderr and "Uncaught" not in p.stderr, p.stderr
    return p.stdout


def test_its_size_is_what_is_said(m):
    assert size(m) == os.stat(m.mnt / "dashboard.html").st_size == 256 << 10
    m.put("x", "#!/bin/sh\n")
    m.wait("x")
    assert size(m) == 256 << 10


def test_it_is_self_contained_and_its_script_is_the_one_that_is_allowed(m):
    text = (TOP / "fs/tree/dashboard.html").read_text()
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    allowed = re.search(r"script-src 'sha256-([^']*)'", text)[1]
    assert allowed == base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "innerHTML" not in text and not re.search(r"""(src|href)=["']?(http|//)""", text)
    assert script in page(m)


def test_what_it_has(m):
    (m.jobs / "G").mkdir()
    m.put("G/good", "#!/bin/sh\n")
    m.put("G/bad", "#!/bin/sh\necho gone >&2; exit 3\n")
    m.put("G/held", "#!/bin/sh\n#ppfs: hold=1\n")
    m.put("runs", "#!/bin/sh\necho so far; exec sleep 1000\n")
    assert m.wait("G/good") == "done" and m.wait("G/bad") == "failed"
    wait_until(lambda: shown(m, "running", "last") == ["so far"], "its output")
    d = data(page(m))
    assert d["stats"]["jobs"] == {"waiting": 1, "running": 1, "done": 1, "failed": 1, "cancelled": 0}
    group, = d["groups"]
    assert group.pop("created") > 0
    assert group == {"group": "G", "waiting": 1, "running": 0, "done": 1, "failed": 1, "cancelled": 0}
    failure, = d["failures"]
    assert (failure["job"], failure["node"], failure["attempt"]) == ("G/bad", "local", 1)
    assert failure["why"] == "exit status 3; its last line is: gone; see failures/G/bad"
    assert sum(d["pace"]["ended"]) == 2 and d["pace"]["unfinished"][0] == 0 and d["pace"]["unfinished"][-1] == 2
    assert [n["node"] for n in d["stats"]["nodes"]] == ["local"]
    os.unlink(m.jobs / "runs")
    m.put("G/bad", "#!/bin/sh\n#ppfs: hold=1\n")
    wait_until(lambda: shown(m, "failures", "job") == [], "it is no failure any more")


def test_groups_that_have_not_ended_come_first(m):
    for i in range(40):
        (m.jobs / ("G%02d" % i)).mkdir()
    m.put("G03/x", "#!/bin/sh\n#ppfs: hold=1\n")
    groups = shown(m, "groups", "group")
    assert groups[:3] == ["G03", "G39", "G38"] and len(groups) == 24


@pytest.mark.parametrize("name", [EVIL, "</script><script>document.title=666</script>".replace("/", "\u2215"), "<!--<script", "\udcff\u2028\033]0;x\007\"\\"])
def test_names_are_data(m, name):
    (m.jobs / name).mkdir()
    m.put(name + "/x", "#!/bin/sh\nexit 3\n")
    m.wait(name + "/x")
    text = page(m)
    inside = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1]
    assert "<" not in inside and inside.isascii() and "\033" not in inside
    assert data(text)["groups"][0]["group"] == name and data(text)["failures"][0]["job"] == name + "/x"


def test_names_without_end_do_not_make_it_longer(m):
    path = m.jobs
    for _ in range(14):
        path = path / ("<" * 250)
        path.mkdir()
    for i in range(20):
        (path / ("<" * 200 + str(i))).write_text("#!/bin/sh\nexit 3\n")
    wait_until(lambda: data(page(m))["stats"]["jobs"]["failed"] == 20, "all to fail")
    for i in range(40):
        (m.jobs / ("<" * 250 + str(i))).mkdir()
    text = wait_until(lambda: shown(m, "groups", "group") and page(m), "the page with the groups")
    assert size(m) == 256 << 10 and text.rstrip().endswith("</html>")
    assert 0 < len(data(text)["failures"]) < 15


def test_who_asks_too_often_gets_the_last_one_again(m):
    """So that others do not wait while it is made; it is never older than a second."""
    assert page(m) != page(m) and any(page(m) == page(m) for _ in range(1000))
    m.put("x", "#!/bin/sh\nexit 3\n")
    m.wait("x")
    wait_until(lambda: shown(m, "failures", "job") == ["x"], "the present")


def test_a_browser_shows_it(m):
    m.put(EVIL, "#!/bin/sh\nexit 3\n")
    m.wait(EVIL)
    elements = dom(m)
    assert "<img" not in elements.split("<script")[0] and "&lt;img src=x onerror" in elements
    assert re.search(r'<b id="n-failed">1</b>', elements) and "<title>1 failed, 0 running, 0 waiting – ppfs</title>" in elements
    assert "a picture of one moment" in elements


def test_who_sees_what(shared, alice, mallory):
    alice.sh(r"""cd $M; umask 022; mkdir jobs/open; (umask 077; mkdir jobs/closed)
job() { printf '#!/bin/sh\nexit 3\n' > jobs/$1; cat info/$1/wait >/dev/null; }
job open/seen; job closed/b; (umask 077; job d)
printf '#!/bin/sh\necho hush; exec sleep 1000\n' > jobs/closed/c; head -n 1 info/closed/c/stdout""", M=shared.mnt)
    d = data(alice.sh("cat $M/dashboard.html", M=shared.mnt).stdout)
    assert sorted(f["job"] for f in d["failures"]) == ["closed/b", "d", "open/seen"]
    assert sorted(g["group"] for g in d["groups"]) == ["closed", "open"] and [r["job"] for r in d["running"]] == ["closed/c"]
    text = mallory.sh("cat $M/dashboard.html", M=shared.mnt).stdout
    d = data(text)
    assert "closed/" not in text and "hush" not in text
    assert [f["job"] for f in d["failures"]] == ["open/seen"] and [g["group"] for g in d["groups"]] == ["open"] and d["running"] == []
    assert d["stats"]["jobs"]["running"] == 1
    assert len(data(page(shared))["failures"]) == 3


def test_the_queue_was_empty_before_an_array_came(queue):
    queue.put("x", "#!/bin/sh\n#ppfs: array=1-1000\n")
    wait_until(lambda: data(page(queue))["stats"]["jobs"]["waiting"] == 1000, "all to be there")
    unfinished = data(page(queue))["pace"]["unfinished"]
    assert (unfinished[0], unfinished[-1]) == (0, 1000)
    (queue.jobs / "y").mkdir()
    os.rename(queue.jobs / "x", queue.jobs / "y/x")
    os.rename(queue.jobs / "y", queue.jobs / "z")
    wait_until(lambda: data(page(queue))["groups"][0]["group"] == "z", "the group's new name")
    unfinished = data(page(queue))["pace"]["unfinished"]
    assert (unfinished[0], unfinished[-1]) == (0, 1000)
