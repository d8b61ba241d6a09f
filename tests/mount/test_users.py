"""Several users on one mount: each has his own, and nobody gets at what is another's."""


def test_each_runs_as_himself(shared, alice, mallory):
    for user in alice, mallory:
        p = user.sh("echo 'import os; print(os.getuid(), os.getcwd())' > $M/jobs/$USER && cat $M/results/$USER",
                    M=shared.mnt)
        assert (p.stdout, p.stderr) == ("%d %s\n" % (user.uid, user.home), "")
    p = mallory.sh("cat $M/jobs/x; rm $M/results/%s" % alice.name, M=shared.mnt)
    assert p.returncode != 0
    assert shared.result(alice.name).split()[0] == b"%d" % alice.uid
