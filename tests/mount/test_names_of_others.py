"""A name that one user had and another has now: what is kept open of the old one opens nothing of the new one."""

KEPT = r"""
import os, sys
m, name = sys.argv[1:]
def job(text):
    with open("%s/jobs/%s" % (m, name), "w") as f:
        f.write(text)
    return open("%s/results/%s" % (m, name))
kept = [job("print('mine')\n"), open("%s/info/%s/stdout" % (m, name)), open("%s/info/%s/spec" % (m, name))]
[f.read() for f in kept]
kept.append(os.open("%s/info/%s" % (m, name), os.O_PATH))
os.rmdir("%s/info/%s" % (m, name))
print("ready", flush=True)
sys.stdin.readline()
def show(path):
    try:
        with open(path) as f:
            print(repr(f.read()))
    except OSError as e:
        print(e.strerror)
for f in kept[:3]:
    show("/proc/self/fd/%d" % f.fileno())
for file in "stdout", "spec", "why", "state":
    show("/proc/self/fd/%d/%s" % (kept[3], file))
"""


def test_what_is_kept_of_a_name_that_is_anothers_now(shared, alice, mallory):
    p = mallory.popen(["/usr/bin/python3", "-c", KEPT, shared.mnt, "x"], stdin=-1, stdout=-1, text=True)
    assert p.stdout.readline() == "ready\n"
    q = alice.sh("umask 077; echo 'print(\"secret\")' > $M/jobs/x; cat $M/results/x; stat -c %a $M/results/x", M=shared.mnt)
    assert (q.stdout, q.stderr) == ("secret\n400\n", "")
    out = p.communicate("\n")[0]
    assert "secret" not in out, out
