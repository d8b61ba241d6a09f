"""ppfs-dashboard(1): what it serves, to whom, and what it refuses."""
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from urllib.parse import quote, urlsplit

import pytest
from ppfsmount import TOP, need_programs, wait_until

PROGRAM = TOP / "scripts/ppfs-dashboard"


class Browser:
    """ppfs-dashboard, and one who has opened the address that it printed."""

    def __init__(self, mount, *options):
        self.process = subprocess.Popen([sys.executable, str(PROGRAM), *options, str(mount)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.url = urlsplit(self.process.stdout.readline())
        self.host, self.cookie, self.top = self.url.netloc, None, ""

    def ask(self, path, method="GET", body=None, **headers):
        """(status, headers, body)."""
        c = http.client.HTTPConnection("127.0.0.1", self.url.port, timeout=30)
        given = {"Host": self.host, **({"Cookie": self.cookie} if self.cookie else {}), **{k.replace("_", "-"): v for k, v in headers.items()}}
        c.request(method, path if path.startswith("/?") else self.top + path, body, {k: v for k, v in given.items() if v is not None})
        r = c.getresponse()
        answer = r.status, r.headers, r.read()
        c.close()
        return answer

    def enter(self):
        status, headers, _ = self.ask("/?" + self.url.query.strip())
        assert status == 303 and headers["Location"].endswith("/dashboard.html")
        self.top = headers["Location"].removesuffix("/dashboard.html")
        cookie = headers["Set-Cookie"]
        assert len(self.top) > 40 and {"HttpOnly", "SameSite=Strict", "Path=%s/" % self.top} <= set(cookie.split("; ")[1:])
        self.cookie = cookie.split(";")[0]
        return self

    def act(self, **what):
        return self.ask("/act", "POST", json.dumps(what), Content_Type="application/json", Origin="http://" + self.host)

    def end(self, how=signal.SIGINT):
        self.process.send_signal(how)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture
def browse():
    made = []

    def start(*args):
        made.append(Browser(*args))
        return made[-1]

    yield start
    for b in made:
        if b.process.poll() is None:
            b.end(signal.SIGKILL)


def test_it_serves_the_page_and_ends_quietly(m, browse):
    m.put("x", "#!/bin/sh\necho last words >&2; exit 3\n")
    m.wait("x")
    b = browse(m.mnt).enter()
    status, headers, body = b.ask("/dashboard.html")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8" and headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff" and b'"job": "x"' in body and len(body) == 256 << 10
    assert json.loads(b.ask("/stats.json")[2])["jobs"]["failed"] == 1
    assert json.loads(b.ask("/trace.json")[2])["traceEvents"] and b.ask("/running")[2] == b""
    assert json.loads(b.ask("/about")[2]) == {"actions": False}
    assert b"last words" in b.ask("/failure?job=x")[2]
    assert b.end() == (130, "", "")


def test_nothing_is_served_without_the_token(m, browse):
    b = browse(m.mnt)
    for path in "/dashboard.html", "/stats.json", "/about", "/", "/?token=", "/?token=wrong", "/failure?job=x":
        assert b.ask(path)[0] == 403
    token = "/?" + b.url.query.strip()
    b.enter()
    assert b.ask("/dashboard.html")[0] == 200
    for path in "/dashboard.html", "/stats.json", "/about":
        assert b.ask("/../" + path)[0] in (403, 404)
    top, b.top = b.top, ""
    assert b.ask("/dashboard.html")[0] == 403, "the cookie opens nothing but what is below its path"
    b.cookie, b.top = None, top
    assert b.ask("/dashboard.html")[0] == 403, "nor does the path without the cookie"
    assert b.ask(token)[0] == 403, "the token opens the door once"
    b.cookie = "ppfs-%d=wrong" % b.url.port
    assert b.ask("/dashboard.html")[0] == 403


def test_other_sites_are_refused(m, browse):
    b = browse(m.mnt, "--allow-actions").enter()
    good = {"Content_Type": "application/json"}
    for headers in ({"Host": "evil.example:%d" % b.url.port}, {"Host": "127.0.0.1"}, {"Origin": "http://evil.example"}, {"Origin": "null"},
                    {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}):
        assert b.ask("/dashboard.html", **headers)[0] == 403, headers
        assert b.ask("/act", "POST", '{"act": "cancel", "job": "x"}', **{"Origin": "http://" + b.host, **good, **headers})[0] == 403, headers
    assert b.ask("/act", "POST", '{"act": "cancel", "job": "x"}', **good)[0] == 403, "a POST names its origin"
    assert b.ask("/dashboard.html", Host="localhost:%d" % b.url.port)[0] == 200


def test_known_files_only(m, browse):
    m.put("secret", "#!/bin/sh\necho hush\n")
    m.wait("secret")
    b = browse(m.mnt).enter()
    for path in ("/results/secret", "/../../etc/passwd", "/%2e%2e/etc/passwd", "/jobs", "/events", "//etc/passwd", "/nodes/.keys", "/failure?job=secret",
                 "/failure?job=../results/secret", "/failure", "/dashboard.html/x"):
        status, _, body = b.ask(path)
        assert status == 404 and b"hush" not in body, path


def test_actions_are_refused_unless_allowed(m, browse):
    m.put("x", "#!/bin/sh\nexec sleep 1000\n")
    b = browse(m.mnt).enter()
    assert b.act(act="cancel", job="x")[0] == 403 and m.state("x") in ("queued", "running")
    os.unlink(m.jobs / "x")


def test_actions(m, browse):
    (m.jobs / "G").mkdir()
    m.put("x", "#!/bin/sh\nexec sleep 1000\n")
    m.put("bad", "#!/bin/sh\nexit 3\n")
    wait_until(lambda: m.state("x") == "running" and m.wait("bad"), "it to run")
    m.put("y", "#!/bin/sh\nexec sleep 1000\n")
    for i in range(3):
        m.put("G/%d" % i, "#!/bin/sh\nexec sleep 1000\n")
    b = browse(m.mnt, "--allow-actions").enter()
    assert json.loads(b.ask("/about")[2]) == {"actions": True}
    wait_until(lambda: m.state("y") == "running", "another to run")
    assert b.act(act="hold", group="G")[0] == 200 and [m.state("G/%d" % i) for i in range(3)] == ["held"] * 3
    assert b.act(act="cancel", job="x")[0] == 200 and m.wait("x") == "cancelled"
    assert b.act(act="retry", job="bad")[0] == 200
    wait_until(lambda: m.state("bad") == "failed" and (m.info / "bad/attempt").read_text() == "2\n", "its second attempt")
    status, _, body = b.act(act="cancel", job="nothing")
    assert status == 409 and b"No such file" in body
    for wrong in {"act": "cancel", "job": "../state/key"}, {"act": "cancel", "job": 7}, {"act": "cancel"}, {"act": "retry", "job": "/etc/passwd"}, \
            {"act": "hold", "group": "G/.."}, {"act": "no such"}, {}:
        assert b.act(**wrong)[0] == 400, wrong
    assert b.ask("/act", "POST", "[" * 9000, Content_Type="application/json", Origin="http://" + b.host)[0] in (400, 409)
    os.unlink(m.jobs / "y")


def test_names_of_any_bytes(m, browse):
    name = "caf\udce9 <b>&\"'"
    m.put(name, "#!/bin/sh\nexit 3\n")
    m.wait(name)
    b = browse(m.mnt, "--allow-actions").enter()
    assert b"exit status 3" in b.ask("/failure?job=" + quote(os.fsencode(name)))[2]
    assert b.act(act="retry", job=name)[0] == 200


def test_in_a_browser(m, browse):
    """The address that was printed leads to the live page, which has found out what may be done there."""
    need_programs("chromium")
    m.put("<b>x</b>".replace("/", ":"), "#!/bin/sh\nexit 3\n")
    m.wait("<b>x<:b>")
    b = browse(m.mnt, "--allow-actions")
    p = subprocess.run(["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--user-data-dir=%s" % (m.work / "chromium"), "--virtual-time-budget=3000",
                        "--dump-dom", b.url.geturl().strip()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=100)
    elements = p.stdout.split("<script")[0]
    assert '<span id="live" role="status" class="on">live</span>' in elements, p.stdout + p.stderr
    assert 'aria-label="run &lt;b&gt;x&lt;:b&gt; again"' in elements or 'aria-label="run <b>x<:b> again"' in elements
    assert '<span class="name">&lt;b&gt;x&lt;:b&gt;</span>' in elements and ">last lines</button>" in elements


def test_the_mount_is_not_kept_busy(new_mount, browse):
    mount = new_mount().start()
    b = browse(mount.mnt).enter()
    assert b.ask("/dashboard.html")[0] == 200
    mount.unmount()
    status, _, body = b.ask("/dashboard.html")
    assert status == 503 and b"no ppfs is mounted" in body


def test_faults_are_one_sentence(tmp_path):
    p = subprocess.run([sys.executable, str(PROGRAM), str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.returncode == 1 and p.stderr == "ppfs-dashboard: there is no ppfs mounted on %s; mount one with: ppfs %s\n" % (tmp_path, tmp_path)


def test_who_connects_and_says_nothing_gives_way(m, browse):
    b = browse(m.mnt)
    silent = [socket.create_connection(("127.0.0.1", b.url.port)) for _ in range(80)]
    try:
        b.enter()
        assert b.ask("/dashboard.html")[0] == 200
    finally:
        for s in silent:
            s.close()
