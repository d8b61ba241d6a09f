/* The pool with real workers ($PPFS_WORKER, else ./ppfs-worker): every kind of work, every way in which it can end, and
 * what a job may do to its worker, its descriptors and its neighbours. */
#include "tests/unit/poolrig.h"

/* --- calls -------------------------------------------------------------------------------------------------------- */
static void json_call_returns_json(void **state) {
    struct job *j = run(text(WORK_JSON_CALL, "{\"call\": \"math.sqrt\", \"args\": [16]}"));
    assert_end(j, WORK_DONE, 0, "");
    assert_string_equal(RESULT(j), "4.0\n");
    j = run(text(WORK_JSON_CALL, "{\"call\": \"pow\", \"args\": [2, 10], \"kwargs\": {\"mod\": 1000}}"));
    assert_string_equal(RESULT(j), "24\n");
    j = run(text(WORK_JSON_CALL, "{\"call\": \"os.path.join\", \"args\": [\"a\", \"\u00e9\"], \"priority\": 3}"));
    assert_string_equal(RESULT(j), "\"a/\u00e9\"\n");
    assert_true(j->outcome.wall_us > 0);
    assert_true(j->outcome.maxrss_kib > 1000);
    assert_string_equal(pool_python(fix.pool)[0] ? "3" : "", "3");
}

static void call_that_is_not_there_is_refused(void **state) {
    assert_end(run(text(WORK_JSON_CALL, "{\"call\": \"nosuchmodule.f\"}")), WORK_REFUSED, 0,
               "no module 'nosuchmodule'");
    assert_end(run(text(WORK_JSON_CALL, "{\"call\": \"math.nosuch\"}")), WORK_REFUSED, 0, "no 'math.nosuch'");
    assert_end(run(text(WORK_JSON_CALL, "{\"call\": \"nosuch\"}")), WORK_REFUSED, 0, "no builtin 'nosuch'");
    assert_end(run(text(WORK_JSON_CALL, "{\"call\": \"math.pi\"}")), WORK_REFUSED, 0, "cannot be called");
    assert_end(run(text(WORK_JSON_CALL, "{\"call\": 3}")), WORK_REFUSED, 0, "a JSON call is");
    assert_end(run(text(WORK_JSON_CALL, "{\"call\": ")), WORK_REFUSED, 0, "not valid JSON");
    assert_end(run(text(WORK_JSON_CALL, "[]")), WORK_REFUSED, 0, "not one JSON object");
    assert_end(run(text(WORK_JSON_CALL, "{\"call\": \"a b.c\"}")), WORK_REFUSED, 0, "not a dotted name");
}

static void call_that_raises_gives_a_traceback(void **state) {
    struct job *j = run(text(WORK_JSON_CALL, "{\"call\": \"math.sqrt\", \"args\": [-1]}"));
    assert_end(j, WORK_RAISED, 0, "ValueError: math domain error");
    assert_text(TRACE(j), "ValueError: math domain error");
    assert_null(strstr(TRACE(j), "<ppfs>"));
    assert_end(run(text(WORK_JSON_CALL, "{\"call\": \"sys.exit\", \"args\": [0]}")), WORK_RAISED, 0, "SystemExit: 0");
    assert_end(run(text(WORK_JSON_CALL, "{\"call\": \"json.loads\", \"args\": [\"[\"]}")), WORK_RAISED, 0,
               "json.decoder.JSONDecodeError");
    assert_end(run(text(WORK_JSON_CALL, "{\"call\": \"set\"}")), WORK_RAISED, 0,
               "the result, a set, cannot be written as JSON");
}

/* A pickle of exec(source), protocol 2. */

static void pickle_returns_a_pickle(void **state) {
    static const char pickle[] = "\x80\x04\x8c\x08"
                                 "operator\x8c\x03"
                                 "add\x93K\x02K\x03\x86\x86.";
    struct job *j = run(base_work(WORK_PICKLE, pickle, sizeof(pickle) - 1));
    assert_end(j, WORK_DONE, 0, "");
    assert_int_equal(j->size[OUTPUT_RESULT], 5);
    assert_memory_equal(RESULT(j), "\x80\x04K\x05.", 5);
    j = run_exec("print('hello')");
    assert_end(j, WORK_DONE, 0, "");
    assert_string_equal(OUT(j), "hello\n");
    assert_memory_equal(RESULT(j), "\x80\x02N.", 4);
    /* a bare callable, and (func, kwargs) */
    j = run(text(WORK_PICKLE, "\x80\x02"
                              "c__builtin__\nlist\n."));
    assert_end(j, WORK_DONE, 0, "");
    j = run(text(WORK_PICKLE, "\x80\x02"
                              "c__builtin__\ndict\n}X\x01"));
    assert_end(j, WORK_RAISED, 0, "could not be unpickled");
}

static void bad_pickles_are_told_in_a_sentence(void **state) {
    assert_end(run(text(WORK_PICKLE, "\x80\x04\x95")), WORK_RAISED, 0, "could not be unpickled");
    assert_end(run(text(WORK_PICKLE, "\x80\x04K\x01.")), WORK_REFUSED, 0, "neither a callable nor");
    assert_end(run(text(WORK_PICKLE, "\x80\x02"
                                     "cnosuchmod\nf\n.")),
               WORK_RAISED, 0, "ModuleNotFoundError: No module named 'nosuchmod'");
    assert_end(run(text(WORK_PICKLE, "\x80\x02"
                                     "c__main__\nf\n.")),
               WORK_RAISED, 0, "with cloudpickle or dill");
    assert_end(run(text(WORK_PICKLE, "\x80")), WORK_RAISED, 0, NULL);
    /* a result that only its type can tell */
    assert_end(run(text(WORK_PICKLE, "\x80\x02"
                                     "csys\n_getframe\n.")),
               WORK_RAISED, 0, "the result, a frame, cannot be pickled");
}

static void call_may_end_its_process(void **state) {
    assert_end(run_exec("import os; os._exit(3)"), WORK_EXITED, 3, "the call ended its process with exit status 3");
    assert_end(run_exec("import os; os._exit(0)"), WORK_EXITED, 0, "exit status 0");
    /* WORKER_EXIT_NO_FORK, but it ran */
    assert_end(run_exec("import os; os._exit(251)"), WORK_EXITED, 251, "exit status 251");
    assert_end(run_exec("import os; os.kill(os.getpid(), 11)"), WORK_SIGNALED, SIGSEGV, "killed by SIGSEGV");
    assert_end(run_exec("import os; os.abort()"), WORK_SIGNALED, SIGABRT, "SIGABRT");
    assert_end(run_exec("import os; os.kill(os.getppid(), 9)\nimport time; time.sleep(9)"), WORK_SIGNALED, SIGKILL,
               "SIGKILL");
    assert_end(run_exec("import os; os.closerange(0, 1000)"), WORK_EXITED, 250, "closed the connection");
    assert_end(run_exec("import os; os.write(200, b'x' * 999)\nimport time; time.sleep(30)"), WORK_SIGNALED, SIGKILL,
               NULL);
    assert_end(run(text(WORK_JSON_CALL, "{\"call\": \"abs\", \"args\": [-1]}")), WORK_DONE, 0, "");
    assert_int_equal(fix.troubles, 0);
}

static void call_leaves_its_worker_in_order(void **state) {
    runner_resize(fix.runner, 1);
    struct job *j = run_exec("import os, sys, signal\nos.chdir('/tmp'); os.environ['X'] = '1'; del os.environ['PATH']\n"
                             "sys.argv.append('x'); sys.path.insert(0, '/x'); sys.stdout = None; os.umask(0)\n"
                             "signal.signal(15, lambda *a: 0); signal.alarm(1); os.set_blocking(2, False)\n"
                             "if os.fork(): print('gone', file=sys.__stdout__)\n");
    assert_end(j, WORK_DONE, 0, "");
    assert_string_equal(OUT(j), "gone\n");
    j = run_exec(
        "import os, sys, signal\nprint(os.getcwd(), os.environ.get('X'), 'PATH' in os.environ, sys.argv, sys.path[0],"
        " os.umask(0o22), signal.getsignal(15), signal.alarm(0), os.get_blocking(2), os.environ['PPFS_JOB'])");
    assert_end(j, WORK_DONE, 0, "");
    assert_text(OUT(j), "/ None True [''] ");
    assert_text(OUT(j), " 0 0 True t\n");
}

static void threads_and_children_left_behind_are_gone(void **state) {
    runner_resize(fix.runner, 1);
    struct job *j =
        run_exec("import threading, time, os; threading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n"
                 "print(os.getpid())");
    assert_end(j, WORK_DONE, 0, "");
    char first[32];
    snprintf(first, sizeof(first), "%.20s", OUT(j));
    j = run_exec("import os; print(os.getpid())"); /* the worker with the thread has left */
    assert_string_not_equal(first, OUT(j));
    j = run_exec("import subprocess\np = subprocess.Popen('(setsid sleep 98 & setsid sleep 98 &) & echo', shell=True); "
                 "p.wait()\n"
                 "q = subprocess.Popen(['setsid', 'sleep', '97']); print(q.pid)");
    assert_end(j, WORK_DONE, 0, "");
    int pid = atoi(strchr(OUT(j), '\n') + 1);
    assert_true(pid > 0);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(system("pgrep -x -f 'sleep 9[78]' >/dev/null"), 256);
}

static void edited_module_is_imported_anew(void **state) {
    char dir[] = "/tmp/ppfs-file-XXXXXX", path[64], command[96];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/edited.py", dir);
    runner_resize(fix.runner, 1);
    for (int i = 1; i <= 2; i++) {
        FILE *f = fopen(path, "w");
        fprintf(f, "def f():\n    return %d%s\n", i, i == 1 ? "" : " + 0");
        fclose(f);
        struct work w = text(WORK_JSON_CALL, "{\"call\": \"edited.f\"}");
        w.cwd = dir;
        struct job *j = run(w);
        assert_end(j, WORK_DONE, 0, "");
        assert_int_equal(atoi(RESULT(j)), i);
    }
    snprintf(command, sizeof(command), "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

static void isolated_calls(void **state) {
    const char *env[] = {"PPFS_INDEX=7", "A=b=c", NULL};
    struct work w = text(WORK_JSON_CALL, "{\"call\": \"os.getenv\", \"args\": [\"A\"]}");
    w.env = env;
    struct job *j = run(w);
    assert_end(j, WORK_DONE, 0, "");
    assert_string_equal(RESULT(j), "\"b=c\"\n");
    w = text(WORK_JSON_CALL, "{\"call\": \"bytearray\", \"args\": [4000000000]}");
    w.memory = 512u << 20;
    assert_end(run(w), WORK_RAISED, 0, "MemoryError");
    w = text(WORK_JSON_CALL, "{\"call\": \"os._exit\", \"args\": [4]}");
    w.env = env;
    assert_end(run(w), WORK_EXITED, 4, "the call ended its process with exit status 4");
    w.payload = "{\"call\": \"os._exit\", \"args\": [0]}";
    assert_end(run(w), WORK_EXITED, 0, "the call ended its process with exit status 0");
    w.payload = "{\"call\": \"os.abort\"}         ";
    w.payload_size = 20;
    assert_end(run(w), WORK_SIGNALED, SIGABRT, "SIGABRT");
    w.payload = "{\"call\": \"int\", \"args\": [\"x\"]}";
    w.payload_size = (uint32_t)strlen(w.payload);
    j = run(w);
    assert_end(j, WORK_RAISED, 0, "ValueError: invalid literal");
    assert_text(TRACE(j), "ValueError: invalid literal");
}

static void large_results_come_in_pieces(void **state) {
    const char *env[] = {"A=b", NULL};
    struct work w = text(WORK_JSON_CALL, "{\"call\": \"operator.mul\", \"args\": [\"x\", 100000000]}");
    struct job *j = run(w);
    assert_end(j, WORK_DONE, 0, "");
    assert_int_equal(j->size[OUTPUT_RESULT], 100000003);
    w.env = env;
    j = run(w);
    assert_end(j, WORK_DONE, 0, "");
    assert_int_equal(j->size[OUTPUT_RESULT], 100000003);
}

/* --- scripts ------------------------------------------------------------------------------------------------------ */
static void script_runs_as_main(void **state) {
    struct work w = text(
        WORK_PYTHON, "#!/usr/bin/env python3\nimport sys, os\nprint(__name__, os.path.basename(__file__), "
                     "os.path.isabs(__file__), sys.argv, sys.path[0], os.getcwd())\n"
                     "print(os.environ['PPFS_JOB'], os.environ['PPFS_NODE'], sys.stdin.read() == '', os.getpgrp() == "
                     "os.getpid())\n");
    w.name = "G/x.py";
    w.cwd = "/tmp";
    struct job *j = run(w);
    assert_end(j, WORK_DONE, 0, "");
    assert_string_equal(OUT(j), "__main__ x.py True ['G/x.py'] /tmp /tmp\nG/x.py local True True\n");
}

static void script_ends_like_python3(void **state) {
    assert_end(run(text(WORK_PYTHON, "import sys; sys.exit(3)")), WORK_EXITED, 3, "exit status 3");
    assert_end(run(text(WORK_PYTHON, "raise SystemExit")), WORK_DONE, 0, "");
    struct job *j = run(text(WORK_PYTHON, "import sys; sys.exit('so')"));
    assert_end(j, WORK_EXITED, 1, "exit status 1: so");
    assert_string_equal(ERR(j), "so\n");
    j = run(text(WORK_PYTHON, "def f():\n    raise ValueError('bad')\nf()\n"));
    assert_end(j, WORK_EXITED, 1, "exit status 1: ValueError: bad");
    assert_string_equal(ERR(j), "Traceback (most recent call last):\n  File \"t\", line 3, in <module>\n    f()\n"
                                "  File \"t\", line 2, in f\n    raise ValueError('bad')\nValueError: bad\n");
    j = run(text(WORK_PYTHON, "def ("));
    assert_end(j, WORK_EXITED, 1, "exit status 1: taken as Python, for it has no #! line: SyntaxError");
    assert_text(ERR(j), "SyntaxError");
    assert_end(run(text(WORK_PYTHON, "import os; os._exit(9)")), WORK_EXITED, 9, "exit status 9");
    assert_end(run(text(WORK_PYTHON, "import os; os.kill(os.getpid(), 6)")), WORK_SIGNALED, SIGABRT,
               "killed by SIGABRT");
    assert_end(run(text(WORK_PYTHON, "import ctypes; ctypes.string_at(0)")), WORK_SIGNALED, SIGSEGV, "SIGSEGV");
    j = run(text(WORK_PYTHON, "import atexit, threading, time, os\natexit.register(print, 'atexit')\n"
                              "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()\n"
                              "f = open(os.environ['TMPDIR'] + '/flush', 'w'); f.write('kept')\nprint('main')\n"));
    assert_string_equal(OUT(j), "main\nthread\natexit\n");
    char kept[8] = "", path[64];
    snprintf(path, sizeof(path), "%s/flush", scratch);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fread(kept, 1, 4, f), 4);
    fclose(f);
    unlink(path);
    j = run(text(WORK_PYTHON, "import multiprocessing\ndef sq(x): return x * x\nif __name__ == '__main__':\n"
                              "    with multiprocessing.Pool(2) as p: print(p.map(sq, [1, 2, 3]))\n"));
    assert_end(j, WORK_DONE, 0, "");
    assert_string_equal(OUT(j), "[1, 4, 9]\n");
    j = run(text(WORK_PYTHON, "import os\nif os.fork() == 0: raise SystemExit(5)\nprint(os.wait()[1] >> 8)\n"));
    assert_end(j, WORK_DONE, 0, "");
    assert_string_equal(OUT(j), "5\n");
}

static void scripts_differ_in_chance_and_share_nothing(void **state) {
    runner_resize(fix.runner, 1);
    const char *source = "import random, sys, math\nprint(random.random(), hasattr(math, 'mark'), 'x' in "
                         "globals())\nmath.mark = x = 1\n";
    struct job *j = run(text(WORK_PYTHON, source));
    char first[64];
    snprintf(first, sizeof(first), "%.60s", OUT(j));
    j = run(text(WORK_PYTHON, source));
    assert_string_not_equal(first, OUT(j));
    assert_text(OUT(j), "False False");
    run_exec("import math; math.mark = 1");
    j = run(text(WORK_PYTHON, source)); /* nor with a call that ran in the worker before */
    assert_text(OUT(j), "False False");
}

static void output_is_live_and_complete(void **state) {
    struct job *j =
        begin(text(WORK_PYTHON, "import sys, time\nprint('one')\nprint('two', file=sys.stderr)\ntime.sleep(30)"));
    for (int i = 0; i < 300 && !(j->size[OUTPUT_STDOUT] && j->size[OUTPUT_STDERR]); i++)
        loop_for_ms(10);
    assert_string_equal(OUT(j), "one\n");
    assert_string_equal(ERR(j), "two\n");
    runner_kill(fix.runner, fix.last);
    loop_until(&j->done);
    assert_end(j, WORK_SIGNALED, SIGKILL, "killed");
    j = run(text(WORK_JSON_RUN, "{\"run\": [\"head\", \"-c\", \"1000000000\", \"/dev/zero\"]}"));
    assert_end(j, WORK_DONE, 0, "");
    assert_int_equal(j->size[OUTPUT_STDOUT], 1000000000);
}

static void held_output_waits(void **state) {
    struct job *j = begin(text(WORK_JSON_RUN, "{\"run\": [\"head\", \"-c\", \"20000000\", \"/dev/zero\"]}"));
    runner_hold(fix.runner, fix.last, true);
    loop_for_ms(200);
    assert_false(j->done);
    assert_int_equal(j->size[OUTPUT_STDOUT], 0);
    runner_hold(fix.runner, fix.last, false);
    loop_until(&j->done);
    assert_int_equal(j->size[OUTPUT_STDOUT], 20000000);
}

/* --- programs ----------------------------------------------------------------------------------------------------- */
static void programs_run(void **state) {
    struct job *j = run(text(WORK_JSON_RUN, "{\"run\": [\"tr\", \"a-z\", \"A-Z\"], \"stdin\": \"abc\u00e9\"}"));
    assert_end(j, WORK_DONE, 0, "");
    assert_string_equal(OUT(j), "ABC\u00e9");
    struct work w =
        text(WORK_PROGRAM, "#!/bin/sh -e\necho \"${0##*/} $PPFS_JOB $PPFS_ATTEMPT $A\"; pwd; echo oops >&2; exit 7\n");
    const char *env[] = {"A=1 2", NULL};
    w.name = "G/run me.sh";
    w.env = env;
    j = run(w);
    assert_end(j, WORK_EXITED, 7, "exit status 7");
    assert_string_equal(OUT(j), "run me.sh G/run me.sh 1 1 2\n/\n");
    assert_string_equal(ERR(j), "oops\n");
    assert_end(run(text(WORK_PROGRAM, "#!/bin/sh\nkill -KILL $$")), WORK_SIGNALED, SIGKILL, "killed by SIGKILL");
    assert_end(run(text(WORK_PROGRAM, "#!/bin/sh\nkill -KILL $PPID; sleep 9")), WORK_SIGNALED, SIGKILL,
               "its worker was killed");
    /* a process begins without the signals that Python ignores; the first 28, as make leaves 32 and 33 ignored */
    j = run(text(WORK_PROGRAM, "#!/bin/sh\ngrep SigIgn /proc/self/status | tail -c 8"));
    assert_string_equal(OUT(j), "0000000\n");
}

static void programs_that_do_not_start_are_refused(void **state) {
    assert_end(run(text(WORK_JSON_RUN, "{\"run\": [\"nosuchprogram\"]}")), WORK_REFUSED, 0,
               "no program nosuchprogram in PATH");
    assert_end(run(text(WORK_JSON_RUN, "{\"run\": [\"/etc/passwd\"]}")), WORK_REFUSED, 0, "Permission denied");
    assert_end(run(text(WORK_JSON_RUN, "{\"run\": []}")), WORK_REFUSED, 0, "list of strings");
    assert_end(run(text(WORK_JSON_RUN, "{\"run\": [\"a\\u0000b\"]}")), WORK_REFUSED, 0, "zero byte");
    assert_end(run(text(WORK_PROGRAM, "#!/no/such/thing -x\n")), WORK_REFUSED, 0,
               "its #! line names /no/such/thing, which does not exist");
    assert_end(run(text(WORK_PROGRAM, "\x7f"
                                      "ELF")),
               WORK_REFUSED, 0, "not a program for this machine");
}

static void payload_may_be_a_file(void **state) {
    char path[] = "/tmp/ppfs-file-XXXXXX";
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");
    fprintf(f, "#");
    for (int i = 0; i < 100000; i++)
        fputc('-', f);
    fprintf(f, "\nprint(len(open(%s).read()))\n", "__import__('os').environ['F']");
    fclose(f);
    char pair[64];
    snprintf(pair, sizeof(pair), "F=%s", path);
    const char *env[] = {pair, NULL};
    struct work w = base_work(WORK_PYTHON, NULL, 0);
    w.file = path;
    w.env = env;
    struct job *j = run(w);
    assert_end(j, WORK_DONE, 0, "");
    assert_true(atoi(OUT(j)) > 100000);
    unlink(path);
    assert_end(run(w), WORK_REFUSED, 0, "could not be opened");
    w.file = "/bin/true";
    w.kind = WORK_PROGRAM;
    assert_end(run(w), WORK_DONE, 0, "");
}

/* --- places ------------------------------------------------------------------------------------------------------- */
static void directories(void **state) {
    struct work w = text(
        WORK_PYTHON, "import os; print(os.getcwd()); os.makedirs('a/b'); open('a/b/c', 'w'); os.symlink('/etc', 'd')");
    struct stat st;
    w.cwd = "/no/such/dir";
    struct job *j = run(w);
    assert_end(j, WORK_DONE, 0, "");
    OUT(j)[strcspn(OUT(j), "\n")] = 0;
    assert_text(OUT(j), "/ppfs-");
    assert_int_equal(stat(OUT(j), &st), -1);
    assert_int_equal(stat("/etc/passwd", &st), 0);
    w.cwd = "";
    assert_end(run(w), WORK_DONE, 0, "");
    w.cwd = "/no/such/dir";
    w.cwd_required = true;
    assert_end(run(w), WORK_REFUSED, 0, "cwd: there is no directory /no/such/dir here");
    w = text(WORK_JSON_CALL, "{\"call\": \"os.getcwd\"}");
    w.cwd = "/no/such/dir";
    assert_text(RESULT(run(w)), "/ppfs-");
}

static void directories_of_killed_jobs_are_removed(void **state) {
    struct work w = text(
        WORK_PROGRAM, "#!/bin/sh\nfor i in 1 2 3; do mkdir -p $i/$i; : > $i/$i/f; done; pwd; echo ${0%/*}; sleep 94\n");
    w.cwd = "";
    struct job *j = begin(w);
    while (!strstr(OUT(j), "-") || !strchr(strchr(OUT(j), '\n') + 1, '\n'))
        loop_for_ms(5);
    char *tool = strchr(OUT(j), '\n') + 1;
    tool[-1] = 0;
    *strchr(tool, '\n') = 0;
    assert_int_equal(entries(OUT(j)), 3);
    assert_int_equal(entries(tool), 1);
    *strrchr(tool, '/') = 0; /* the root of the pool's directories */
    runner_kill(fix.runner, fix.last);
    loop_until(&j->done);
    for (int i = 0; i < 500 && entries(tool); i++)
        loop_for_ms(10);
    assert_int_equal(entries(tool), 0);
    /* somebody cleans /tmp under us: the next job finds its way */
    w = text(WORK_PROGRAM, "#!/bin/sh\npwd\n");
    w.cwd = "";
    assert_end(run(w), WORK_DONE, 0, "");
    char command[128];
    snprintf(command, sizeof(command), "rm -r '%.100s'", tool);
    assert_int_equal(system(command), 0);
    assert_end(run(w), WORK_DONE, 0, "");
}

static void other_users(void **state) {
    struct work w = text(WORK_JSON_CALL, "{\"call\": \"os.getresuid\"}");
    w.uid = w.gid = 65534;
    if (geteuid() != 0) {
        assert_end(run(w), WORK_REFUSED, 0, "only run jobs of its own user");
        return;
    }
    assert_string_equal(RESULT(run(w)), "[65534, 65534, 65534]\n");
    w = text(
        WORK_PROGRAM,
        "#!/bin/sh\nid -u; id -G; echo $USER; cat /etc/shadow; echo x > /dev/stdout; : > ${0%/*}/y && echo mine\n");
    w.uid = w.gid = 65534;
    struct job *j = run(w);
    assert_string_equal(OUT(j), "65534\n65534\nnobody\nx\nmine\n");
    assert_text(ERR(j), "Permission denied");
    w = text(WORK_PYTHON, "import os; print(os.getuid(), os.getgroups(), os.environ['HOME'])");
    w.uid = w.gid = 65534;
    w.cwd = "/root";
    j = run(w);
    assert_end(j, WORK_DONE, 0, "");
    assert_text(OUT(j), "65534 [65534] /nonexistent");
    w.cwd_required = true;
    assert_end(run(w), WORK_REFUSED, 0, "the job may enter");
}

int main(void) {
#define POOL_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        POOL_TEST(json_call_returns_json),
        POOL_TEST(call_that_is_not_there_is_refused),
        POOL_TEST(call_that_raises_gives_a_traceback),
        POOL_TEST(pickle_returns_a_pickle),
        POOL_TEST(bad_pickles_are_told_in_a_sentence),
        POOL_TEST(call_may_end_its_process),
        POOL_TEST(call_leaves_its_worker_in_order),
        POOL_TEST(threads_and_children_left_behind_are_gone),
        POOL_TEST(edited_module_is_imported_anew),
        POOL_TEST(isolated_calls),
        POOL_TEST(large_results_come_in_pieces),
        POOL_TEST(script_runs_as_main),
        POOL_TEST(script_ends_like_python3),
        POOL_TEST(scripts_differ_in_chance_and_share_nothing),
        POOL_TEST(output_is_live_and_complete),
        POOL_TEST(held_output_waits),
        POOL_TEST(programs_run),
        POOL_TEST(programs_that_do_not_start_are_refused),
        POOL_TEST(payload_may_be_a_file),
        POOL_TEST(directories),
        POOL_TEST(directories_of_killed_jobs_are_removed),
        POOL_TEST(other_users),
        /* the last: the limit stays raised */
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
