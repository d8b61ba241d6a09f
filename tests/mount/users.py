"""Real users for the tests of who may do what. A user is made with useradd, has a home directory, and is removed
with all that still runs as him."""
import os
import pwd
import shutil
import subprocess
import time
import uuid

from ppfsmount import SLOW, wait_until
from processes import kill


def _command(argv):
    """useradd and userdel lock /etc/passwd; another test may hold the lock."""
    for _ in range(100):
        p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if "lock" not in p.stdout:
            return p
        time.sleep(0.05)
    return p


def _pids_of(uid):
    pids = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.stat("/proc/%s" % entry).st_uid == uid:
                pids.append(int(entry))
        except OSError:
            pass
    return pids


class User:
    """name, uid, gid and home of a user who was made for one test."""

    def __init__(self, base):
        self.name = "ppfs-%s" % uuid.uuid4().hex[:10]
        self.home = base / self.name
        p = _command(["useradd", "--user-group", "--no-log-init", "--create-home", "--skel", "/nonexistent",
                      "--home-dir", str(self.home), "--shell", "/bin/bash", self.name])
        assert p.returncode == 0, "useradd %s: %s" % (self.name, p.stdout)
        entry = pwd.getpwnam(self.name)
        self.uid, self.gid = entry.pw_uid, entry.pw_gid

    def _become(self):
        os.setgroups([self.gid])
        os.setgid(self.gid)
        os.setuid(self.uid)
        os.umask(0o022)

    def popen(self, argv, **kw):
        """Starts argv as this user, in his home, with the environment of a login."""
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.home), "USER": self.name,
               "LOGNAME": self.name, "SHELL": "/bin/bash", "LANG": "C.UTF-8", **kw.pop("env", {})}
        return subprocess.Popen([str(a) for a in argv], env=env, preexec_fn=self._become, cwd=kw.pop("cwd", self.home),
                                **kw)

    def sh(self, command, **env):
        """Runs a shell command as this user; the returned CompletedProcess has stdout and stderr as text."""
        p = self.popen(["/bin/bash", "-c", command], env={k: str(v) for k, v in env.items()}, text=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = p.communicate(timeout=50 * SLOW)
        except subprocess.TimeoutExpired:
            p.kill()
            p.communicate()
            raise
        return subprocess.CompletedProcess(command, p.returncode, out, err)

    def remove(self):
        def nobody():
            for pid in _pids_of(self.uid):
                kill(pid)
            return not _pids_of(self.uid)

        wait_until(nobody, "what runs as %s to end" % self.name, 10)
        _command(["userdel", self.name])
        shutil.rmtree(self.home, ignore_errors=True)
