"""The environment that a job finds: its directory's name, what env= says to Python and libc, and for a script a file of its
own that children can open."""
import json
import os
import pickle
import subprocess

import pytest

from ppfsmount import PYTHON, sanitized, wait_until

ENVIRON = "__import__('os').environ.get('PWD'), __import__('os').environ.get('OLDPWD')"


# --- PWD ----------------------------------------------------------------------------------------------------------

KINDS = {
    "json": {"call": "eval", "args": ["' '.join(map(str, (%s)))" % ENVIRON]},
    "script": "print(%s)\n" % ENVIRON,
    "program": "#!/bin/sh\nprintenv PWD; printenv OLDPWD\nexit 0\n",
    "run": {"run": ["sh", "-c", "printenv PWD; printenv OLDPWD; exit 0"]},
    "lines.jsonl": json.dumps({"call": "eval", "args": ["' '.join(map(str, (%s)))" % ENVIRON]}) + "\n",
}


def words(text):
    return text.decode().replace('"', " ").replace("None", "").strip(" \n")


@pytest.mark.parametrize("name", KINDS)
def test_pwd_is_the_directory_of_the_job(new_mount, name):
    m = new_mount(env={"PWD": "/of/the/mount", "OLDPWD": "/of/before"}).start()
    for d in ("a", "b"):
        (m.work / d).mkdir()
        os.chdir(m.work / d)
        m.put(name, KINDS[name])
        assert words(m.result(name)) == str(m.work / d)
        os.unlink(m.results / name)


@pytest.mark.parametrize("name", [n for n in KINDS if n != "lines.jsonl"])
def test_pwd_follows_cwd(m, name):
    (m.work / "there").mkdir()
    (m.work / "link").symlink_to("there")
    for given, told in (("there", "there"), ("link", "link"), ("there/../link/", "there"), (".//there", "there")):
        where = "%s/%s" % (m.work, given)
        if isinstance(KINDS[name], dict):
            m.put(name, dict(KINDS[name], cwd=where))
        else:
            first, _, rest = KINDS[name].partition("\n") if KINDS[name].startswith("#!") else ("#", "", KINDS[name])
            m.put(name, "%s\n#ppfs: cwd=%s\n%s" % (first, where, rest))
        assert words(m.result(name)) == "%s/%s" % (m.work, told)


def test_pwd_in_other_programs(m):
    """What shells, make and os.path make of it."""
    (m.work / "Makefile").write_text("all:\n\t@echo $(PWD) $(CURDIR)\n")
    m.put("shell", "#!/bin/sh\necho $PWD; pwd\n")
    assert m.result("shell").decode().split() == [str(m.work)] * 2
    if subprocess.run(["which", "make"], capture_output=True).returncode == 0:
        m.put("make", {"run": ["make", "-s"]})
        assert m.result("make").decode().split() == [str(m.work)] * 2


def test_pwd_of_a_directory_made_for_the_job(m):
    os.chdir(m.mnt)
    m.put("x", "import os\nprint(os.environ['PWD'] == os.getcwd())\n")
    m.put("y", {"call": "eval", "args": ["__import__('os').environ['PWD'] == __import__('os').getcwd()"]})
    assert m.result("x") == b"True\n" and m.result("y") == b"true\n"
    os.chdir(m.work)


def test_env_may_name_another_pwd(m):
    m.put("x", {"run": ["printenv", "PWD"], "env": ["PWD:/elsewhere"]})
    m.put("y", "#ppfs: env=PWD:/elsewhere\nimport os\nprint(os.environ['PWD'])\n")
    m.put("z", "#ppfs: env=PWD:/elsewhere env=PYTHONHASHSEED:1\nimport os\nprint(os.environ['PWD'])\n")
    assert m.result("x") == m.result("y") == m.result("z") == b"/elsewhere\n"


# --- env= of what is read at a start --------------------------------------------------------------------------------

AT_START = {
    "TZ:Asia/Tokyo": ("__import__('time').strftime('%z')", "+0900"),
    "PYTHONPATH:/nowhere/at/all": ("'/nowhere/at/all' in __import__('sys').path", True),
    "PYTHONHASHSEED:7": ("hash('ppfs')", None),
    "PYTHONWARNINGS:error": ("__import__('sys').warnoptions", ["error"]),
    "PYTHONOPTIMIZE:2": ("__import__('sys').flags.optimize", 2),
    "PYTHONUTF8:0": ("__import__('sys').flags.utf8_mode", 0),
    "PYTHONIOENCODING:latin-1": ("__import__('codecs').lookup(__import__('sys').stdout.encoding).name", "iso8859-1"),
    "PYTHONDONTWRITEBYTECODE:1": ("__import__('sys').dont_write_bytecode", True),
    "PYTHONUNBUFFERED:1": ("__import__('sys').stdout.write_through", True),
    "PYTHONNOUSERSITE:1": ("__import__('sys').flags.no_user_site", 1),
    "PYTHONDEVMODE:1": ("__import__('sys').flags.dev_mode", True),
    "PYTHONSTARTUP:/nowhere": ("1 + 1", 2),
    "HOME:/nowhere/home": ("__import__('site').getuserbase()", "/nowhere/home/.local"),
    "LC_ALL:C.UTF-8": ("__import__('locale').setlocale(__import__('locale').LC_CTYPE)", "C.UTF-8"),
    "LANG:C.UTF-8": ("__import__('locale').setlocale(__import__('locale').LC_CTYPE)", "C.UTF-8"),
    "LD_PRELOAD:libm.so.6": ("'libm' in open('/proc/self/maps').read()", True),
    "LD_LIBRARY_PATH:/nowhere/lib": ("__import__('os').environ['LD_LIBRARY_PATH']", "/nowhere/lib"),
}
if sanitized():
    del AT_START["LD_PRELOAD:libm.so.6"]  # AddressSanitizer wants to be the first library


def like_python3(option, expression, m):
    key, _, value = option.partition(":")
    return json.loads(subprocess.run([PYTHON, "-c", "import json; print(json.dumps(%s))" % expression], check=True, text=True,
                                     env=dict(m.env, **{key: value}), capture_output=True).stdout)


@pytest.mark.parametrize("kind", ["script", "call", "pickle", "stream"])
def test_env_that_is_read_at_a_start(new_mount, kind):
    m = new_mount(env={"LANG": "", "LC_ALL": ""}).start()
    wrong = {}
    for n, (option, (expression, told)) in enumerate(AT_START.items()):
        name = "x%d" % n
        if told is None:
            told = like_python3(option, expression, m)
        if kind == "script":
            m.put(name, "#ppfs: env=%s\nimport json, sys\nsys.stdout.write(json.dumps(%s))\n" % (option, expression))
        elif kind == "call":
            m.put(name, {"call": "eval", "args": [expression], "env": [option]})
        else:
            (m.jobs / name).mkdir()
            (m.jobs / name / ".options").write_text("env=%s\n" % option)
            if kind == "pickle":
                name += "/x"
                m.put(name, (eval, (expression,)))
            else:
                name += "/x.jsonl"
                m.put(name, json.dumps({"call": "eval", "args": [expression]}) + "\n")
        value = pickle.loads(m.result(name)) if kind == "pickle" else json.loads(m.result(name))
        if value != told:
            wrong[option] = value
    assert not wrong


def test_env_of_assertions_warnings_and_modules(m):
    """The kind, seen from the outside: what the job does differs, as with python3."""
    (m.work / "lib").mkdir()
    (m.work / "lib" / "onlythere.py").write_text("value = 42\n")
    m.put("a", "#ppfs: env=PYTHONOPTIMIZE:1\nassert False\nprint('no assertions')\n")
    assert m.result("a") == b"no assertions\n"
    m.put("b", "#ppfs: env=PYTHONWARNINGS:error\nimport warnings\nwarnings.warn('so')\n")
    assert "UserWarning: so" in m.failed("b")
    m.put("c", "#ppfs: env=PYTHONPATH:%s\nimport onlythere\nprint(onlythere.value)\n" % (m.work / "lib"))
    assert m.result("c") == b"42\n"
    m.put("d", {"call": "operator.attrgetter", "args": ["x"], "env": ["PYTHONHOME:/nowhere"]})
    assert "Python" in m.failed("d").split("\n")[0] and "does not start" in m.why("d")


def test_env_with_memory_large_payloads_and_exit(m):
    memory = "" if sanitized() else "2G"  # AddressSanitizer needs an address space of many TB
    text = "#ppfs: env=PYTHONHASHSEED:1%s\nimport sys, os\nprint(len(open(__file__).read()))\nsys.exit(3)\n" % (memory and " memory=" + memory)
    text += "#" * 100_000
    m.put("a", text)
    assert "exit status 3" in m.failed("a")
    assert m.get("a", "stdout") == str(len(text))
    m.put("b", {"call": "len", "args": ["x" * 300_000], "env": ["PYTHONHASHSEED:1"], **({"memory": memory} if memory else {})})
    assert m.result("b") == b"300000\n"
    m.put("c", {"call": "operator.mul", "args": ["x", 30_000_000], "env": ["PYTHONHASHSEED:1"]})
    assert len(m.result("c")) == 30_000_003
    m.put("d", {"call": "os._exit", "args": [0], "env": ["PYTHONHASHSEED:1"]})
    assert "ended its process" in m.failed("d")
    m.put("e", "#ppfs: env=PYTHONHASHSEED:1\nimport os\nos.kill(os.getpid(), 11)\n")
    assert "SIGSEGV" in m.failed("e")
    m.works()


# --- a file of the script's own -------------------------------------------------------------------------------------

POOL = """
import concurrent.futures, multiprocessing as mp, os, sys
def square(n): return n * n
def shout(): print("from a child", flush=True)
if __name__ == "__main__":
    with mp.get_context("spawn").Pool(2) as pool: print(pool.map(square, range(4)), flush=True)
    p = mp.get_context("forkserver").Process(target=shout)
    p.start(); p.join()
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=mp.get_context("forkserver")) as ex:
        print(list(ex.map(square, range(4))), os.path.basename(__file__), os.path.isabs(__file__))
"""


@pytest.mark.parametrize("name", ["sp", "sp.py", "group/sp", "group/deep/sp.py"])
def test_spawn_and_forkserver_in_a_script(m, name):
    os.makedirs((m.jobs / name).parent, exist_ok=True)
    for options in ("", "#ppfs: env=PYTHONHASHSEED:1\n"):
        m.put(name, options + POOL)
        assert m.result(name).decode() == "[0, 1, 4, 9]\nfrom a child\n[0, 1, 4, 9] %s True\n" % os.path.basename(name)
        assert m.get(name, "stderr") == ""


def test_nothing_is_left_of_the_file(m):
    m.put("a", "print(__file__)\n")
    path = m.result("a").decode().strip()
    wait_until(lambda: not os.path.exists(path), "the script's file to go")
    m.put("b", "import os, sys\nprint(open(__file__).read() == 'x' or __file__, flush=True)\nos.kill(os.getppid(), 9)\n")
    m.failed("b")
    path = m.get("b", "stdout").strip()
    wait_until(lambda: not os.path.exists(path), "the killed script's file to go")


def test_a_script_started_again_by_itself(m):
    m.put("x", "import subprocess, sys\nif len(sys.argv) > 1: print('child', flush=True)\n"
          "else: subprocess.run([sys.executable, __file__, 'child']); print('parent')\n")
    assert m.result("x") == b"child\nparent\n"
