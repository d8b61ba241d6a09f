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
static size_t pickle_exec(const char *source, uint8_t *to) {
    return (size_t)sprintf((char *)to,
                           "\x80\x02"
                           "c__builtin__\nexec\nX%c%c%c%c%s\x85\x86.",
                           (int)(strlen(source) & 0xff), (int)(strlen(source) >> 8), 1, 1, source);
}

static struct job *begin_exec(const char *source) {
    static uint8_t bytes[8192];
    size_t size = pickle_exec(source, bytes);
    /* sprintf cannot write the zero bytes of the length: put them in here */
    uint8_t *len = (uint8_t *)memchr(bytes, 'X', size);
    len[3] = len[4] = 0;
    if (strlen(source) < 256)
        len[2] = 0;
    return begin(base_work(WORK_PICKLE, bytes, size));
}

static struct job *run_exec(const char *source) {
    struct job *j = begin_exec(source);
    loop_until(&j->done);
    return j;
}

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

/* --- the pool itself ---------------------------------------------------------------------------------------------- */
static void jobs_run_side_by_side(void **state) {
    struct job *a = begin(text(WORK_PYTHON, "import time; time.sleep(30)")), *b;
    uint64_t first = fix.last;
    b = begin(text(WORK_JSON_RUN, "{\"run\": [\"sleep\", \"30\"]}"));
    struct work w = text(WORK_JSON_CALL, "{\"call\": \"abs\", \"args\": [1]}");
    w.job = 99;
    assert_int_equal(runner_start(fix.runner, &w), -EAGAIN);
    runner_kill(fix.runner, 12345);
    runner_kill(fix.runner, first);
    loop_until(&a->done);
    assert_end(a, WORK_SIGNALED, SIGKILL, "killed");
    assert_false(b->done);
    runner_resize(fix.runner, 1);
    assert_int_equal(runner_start(fix.runner, &w), -EAGAIN);
    runner_kill(fix.runner, first + 1);
    loop_until(&b->done);
    assert_end(run(w), WORK_DONE, 0, "");
    w.payload_size = WORK_INLINE_MAX + 1;
    assert_int_equal(runner_start(fix.runner, &w), -EMSGSIZE);
}

static void whole_trees_are_killed(void **state) {
    struct job *j = begin(
        text(WORK_PROGRAM, "#!/bin/sh\n(setsid sh -c 'sleep 96 & sleep 96' &)\nsleep 96 & echo $$; kill -STOP $$\n"));
    while (!strchr(OUT(j), '\n'))
        loop_for_ms(5);
    assert_int_equal(pool_job_of(fix.pool, atoi(OUT(j))), fix.last);
    assert_int_equal(pool_job_of(fix.pool, getpid()), 0);
    assert_int_equal(pool_job_of(fix.pool, pool_forkserver(fix.pool)), 0);
    loop_for_ms(50);
    runner_kill(fix.runner, fix.last);
    loop_until(&j->done);
    assert_end(j, WORK_SIGNALED, SIGKILL, "killed");
    assert_int_equal(system("pgrep -x -f 'sleep 96' >/dev/null"), 256);
}

static void forkserver_death_loses_work_and_is_mended(void **state) {
    struct job *j = begin(text(WORK_PROGRAM, "#!/bin/sh\nsetsid sleep 95 &\necho; sleep 95"));
    while (!j->size[OUTPUT_STDOUT])
        loop_for_ms(5);
    kill(pool_forkserver(fix.pool), SIGKILL);
    loop_until(&j->done);
    assert_end(j, WORK_LOST, 0, "the fork server of the workers");
    assert_false(j->outcome.unbegun);
    assert_int_equal(fix.troubles, 1);
    assert_end(run(text(WORK_JSON_CALL, "{\"call\": \"abs\", \"args\": [1]}")), WORK_DONE, 0, "");
    loop_for_ms(100);
    assert_int_equal(system("pgrep -x -f 'sleep 95' >/dev/null"), 256);
}

/* Nobody can have died of work that no worker has taken: neither of one that is still to be made, nor of one that was
 * stopped before. */
static void what_dies_unbegun_says_so(void **state) {
    struct work w = text(WORK_JSON_CALL, "{\"call\": \"os.getpid\"}");
    int worker;
    struct job *j = run(w);
    assert_int_equal(sscanf(RESULT(j), "%d", &worker), 1);
    assert_int_equal(kill(worker, SIGSTOP), 0);
    j = begin(w);
    kill(pool_forkserver(fix.pool), SIGKILL);
    loop_until(&j->done);
    assert_end(j, WORK_LOST, 0, "the fork server of the workers");
    assert_true(j->outcome.unbegun && !j->outcome.no_room);
    assert_end(run(w), WORK_DONE, 0, "");
    kill(pool_forkserver(fix.pool), SIGSTOP);
    struct job *both[2] = {begin(w), begin(w)}; /* one of them has the idle worker */
    loop_until(&both[0]->done);
    kill(pool_forkserver(fix.pool), SIGKILL);
    loop_until(&both[1]->done);
    assert_end(both[0], WORK_DONE, 0, "");
    assert_end(both[1], WORK_LOST, 0, "the fork server of the workers");
    assert_true(both[1]->outcome.unbegun && !both[1]->outcome.no_room);
}

static void forkserver_that_cannot_start_refuses_work(void **state) {
    char path[] = "/tmp/ppfs-file-XXXXXX";
    int fd = mkstemp(path);
    dprintf(fd, "#!/bin/sh\nexit 3\n");
    fchmod(fd, 0755);
    close(fd);
    struct pool_config config = {.worker_path = path, .workers = 1};
    struct runner_events events = {.output = on_output, .done = on_done, .trouble = on_trouble};
    memset(&fix, 0, sizeof(fix));
    fix.base = event_base_new();
    assert_int_equal(pool_create(&fix.pool, fix.base, &config, &events, NULL), 0);
    pool_runner(fix.pool, &fix.runner);
    assert_end(run(text(WORK_JSON_CALL, "{}")), WORK_REFUSED, 0, "does not start (exit status 3)");
    assert_end(run(text(WORK_JSON_CALL, "{}")), WORK_REFUSED, 0, "does not start (exit status 3)");
    assert_int_equal(fix.troubles, 2); /* the second one waited for the second start */
    struct job *j = begin(text(WORK_JSON_CALL, "{}"));
    runner_kill(fix.runner, fix.last);
    assert_false(j->done);
    loop_until(&j->done);
    assert_end(j, WORK_SIGNALED, SIGKILL, "killed");
    /* one that comes up in the end finds the work that waits */
    assert_int_equal(unlink(path), 0);
    char *real = realpath(worker_path(), NULL);
    assert_int_equal(symlink(real, path), 0);
    free(real);
    assert_end(run(text(WORK_JSON_CALL, "{\"call\": \"abs\", \"args\": [1]}")), WORK_DONE, 0, "");
    unlink(path);
    config.worker_path = "/no/such/worker";
    struct pool *none;
    assert_int_equal(pool_create(&none, fix.base, &config, &events, NULL), -ENOENT);
    config.worker_path = worker_path();
    config.python = "/no/such/python";
    assert_int_equal(pool_create(&none, fix.base, &config, &events, NULL), -ENOENT);
}

static void no_descriptor_is_left(void **state) {
    run(text(WORK_JSON_CALL, "{\"call\": \"os.getpid\"}"));
    struct job *j = run(text(WORK_PROGRAM, "#!/bin/sh\nls /proc/self/fd | tr '\\n' ' '"));
    assert_string_equal(OUT(j), "0 1 2 3 "); /* 3 is what ls itself reads */
    j = run(text(WORK_JSON_CALL, "{\"call\": \"os.listdir\", \"args\": [\"/proc/self/fd\"]}"));
    assert_text(RESULT(j), "[\"0\", \"1\", \"2\", ");
    for (int i = 0; i < 20; i++)
        run_exec("import os; os._exit(1)");
    assert_true(entries("/proc/self/fd") < 40);
}

/* --- bursts ------------------------------------------------------------------------------------------------------- */
enum { BURST = 300 };

static struct burst {
    unsigned ends[WORK_LOST + 1];
    unsigned done, unbegun;
    bool all;
    unsigned expected;
    char why[512];
} burst;

static void on_burst_output(void *arg, uint64_t job, enum output_kind stream, const void *bytes, size_t size) {
}

static void on_burst_done(void *arg, uint64_t job, const struct work_outcome *o) {
    burst.ends[o->end]++;
    burst.unbegun += o->unbegun;
    if (o->end != WORK_DONE)
        snprintf(burst.why, sizeof(burst.why), "%s", o->why);
    burst.all = ++burst.done == burst.expected;
}

static void burst_up(unsigned workers) {
    struct pool_config config = {.worker_path = worker_path(), .workers = workers};
    struct runner_events events = {.output = on_burst_output, .done = on_burst_done, .trouble = on_trouble};

    memset(&fix, 0, sizeof(fix));
    memset(&burst, 0, sizeof(burst));
    fix.base = event_base_new();
    assert_int_equal(pool_create(&fix.pool, fix.base, &config, &events, NULL), 0);
    pool_runner(fix.pool, &fix.runner);
    while (!pool_python(fix.pool)[0])
        event_base_loop(fix.base, EVLOOP_ONCE);
}

static int start_numbered(uint64_t job, const char *call) {
    struct work w = text(WORK_JSON_CALL, call);
    w.job = job;
    return runner_start(fix.runner, &w);
}

/* What all pipes that we have open may hold. */
static unsigned long pipe_bytes(void) {
    unsigned long sum = 0;
    for (int fd = 0; fd < 4096; fd++) {
        int size = fcntl(fd, F_GETPIPE_SZ);
        sum += size > 0 ? (unsigned long)size : 0;
    }
    return sum;
}

/* A quarter of what the user may have. */
static unsigned long share_of_pipes(void) {
    unsigned long pages = 0;
    FILE *f = fopen("/proc/sys/fs/pipe-user-pages-soft", "r");
    assert_int_equal(fscanf(f, "%lu", &pages), 1);
    fclose(f);
    return pages ? pages * (unsigned long)sysconf(_SC_PAGESIZE) / 4 : ULONG_MAX;
}

/* More orders than the socket of the fork server holds, while it takes none. */
static void any_number_of_starts_and_kills_at_once(void **state) {
    burst_up(BURST);
    kill(pool_forkserver(fix.pool), SIGSTOP);
    for (uint64_t job = 1; job <= BURST; job++)
        assert_int_equal(start_numbered(job, "{\"call\": \"abs\", \"args\": [1]}"), 0);
    assert_int_equal(start_numbered(BURST + 1, "{}"), -EAGAIN);
    loop_for_ms(20);
    kill(pool_forkserver(fix.pool), SIGCONT);
    burst.expected = BURST;
    loop_until(&burst.all);
    assert_true(pipe_bytes() <= share_of_pipes());
    if (burst.ends[WORK_DONE] != BURST)
        print_message("%s; the log: %s\n", burst.why, fix.trouble);
    assert_int_equal(burst.ends[WORK_DONE], BURST);

    burst = (struct burst){.expected = BURST};
    for (uint64_t job = 1; job <= BURST; job++)
        assert_int_equal(start_numbered(job, "{\"call\": \"time.sleep\", \"args\": [1000]}"), 0);
    loop_for_ms(300);
    kill(pool_forkserver(fix.pool), SIGSTOP);
    for (uint64_t job = 1; job <= BURST; job++)
        runner_kill(fix.runner, job);
    loop_for_ms(20);
    kill(pool_forkserver(fix.pool), SIGCONT);
    loop_until(&burst.all);
    assert_int_equal(burst.ends[WORK_SIGNALED], BURST);
    assert_string_equal(burst.why, "killed");
    assert_int_equal(fix.troubles, 0);
}

static void without_descriptors_work_waits(void **state) {
    struct rlimit before, few;
    unsigned started = 0;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    burst_up(BURST);
    few = (struct rlimit){.rlim_cur = (rlim_t)entries("/proc/self/fd") + 80, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    for (int err = 0; !err && started < BURST; started += !err) {
        err = start_numbered(started + 1, "{\"call\": \"time.sleep\", \"args\": [0.2]}");
        assert_true(err == 0 || err == -EAGAIN);
    }
    assert_true(started >= 5 && started < 80);
    int file = open("/dev/null", O_RDONLY); /* some are kept for other things */
    assert_true(file >= 0);
    close(file);
    assert_int_equal(fix.troubles, 1);
    assert_text(fix.trouble, "no more descriptors");
    burst.expected = started;
    loop_until(&burst.all);
    assert_int_equal(burst.ends[WORK_DONE], started);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    burst = (struct burst){.expected = 1};
    assert_int_equal(start_numbered(BURST, "{\"call\": \"abs\", \"args\": [1]}"), 0);
    loop_until(&burst.all);
    assert_int_equal(burst.ends[WORK_DONE], 1);
}

/* The same for work that waits in the pool: it is given back, as nobody's fault. */
static void what_waits_is_given_back_without_descriptors(void **state) {
    struct rlimit before, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    burst_up(BURST);
    kill(pool_forkserver(fix.pool), SIGSTOP);
    for (uint64_t job = 1; job <= BURST; job++)
        assert_int_equal(start_numbered(job, "{\"call\": \"time.sleep\", \"args\": [0.2]}"), 0);
    few = (struct rlimit){.rlim_cur = (rlim_t)entries("/proc/self/fd") + 40, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    kill(pool_forkserver(fix.pool), SIGCONT);
    burst.expected = BURST;
    loop_until(&burst.all);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(burst.ends[WORK_DONE] >= 64);
    assert_true(burst.unbegun > 0);
    assert_int_equal(burst.unbegun, burst.ends[WORK_LOST]);
    assert_int_equal(burst.ends[WORK_DONE] + burst.unbegun, BURST);
}

/* As a user who may have eight processes, not one that another run of this test counts its own for. The exit status
 * says what went wrong. A false assertion ends this process, which would go on with the next tests otherwise. */
static int with_few_processes(void) {
    struct rlimit few = {.rlim_cur = 8, .rlim_max = 8};
    uid_t user = 61000 + (uid_t)getppid() % 4000;
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    if (setgid(user) || setuid(user) || setrlimit(RLIMIT_NPROC, &few))
        return 1;
    burst_up(20);
    unsigned started = 0;
    while (started < 20 && start_numbered(started + 1, "{\"call\": \"time.sleep\", \"args\": [0.2]}") == 0)
        started++;
    burst.expected = started;
    loop_until(&burst.all);
    pool_destroy(fix.pool);
    event_base_free(fix.base);
    if (started != 20 || burst.ends[WORK_REFUSED] || burst.ends[WORK_DONE] + burst.unbegun != started)
        return 2;
    if (burst.ends[WORK_DONE] == 0 || burst.unbegun < 10)
        return burst.ends[WORK_DONE] == 0 ? 3 : 4;
    return strstr(fix.trouble, "no more processes") ? 0 : 5;
}

static void without_processes_work_is_given_back(void **state) {
    int status = -1;
    if (geteuid() != 0)
        skip();
    assert_int_equal(chmod(scratch, 01777), 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(with_few_processes());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(chmod(scratch, 0711), 0);
    assert_int_equal(status, 0);
}

static void jobs_have_the_limit_that_we_were_given(void **state) {
    struct rlimit before, half;
    char want[64];
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    half = (struct rlimit){.rlim_cur = 512, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &half), 0);
    descriptors_raise();
    struct rlimit raised;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &raised), 0);
    assert_int_equal(raised.rlim_cur, before.rlim_max);
    pool_up(1);
    struct job *j = run(text(WORK_PROGRAM, "#!/bin/sh\nulimit -Sn; ulimit -Hn\n"));
    if (before.rlim_max == RLIM_INFINITY)
        snprintf(want, sizeof(want), "512\nunlimited\n");
    else
        snprintf(want, sizeof(want), "512\n%llu\n", (unsigned long long)before.rlim_max);
    assert_string_equal(OUT(j), want);
}

static void shebangs_of_our_python(void **state) {
    char *program, why[512];
    assert_int_equal(pyenv_resolve(NULL, &program, why, sizeof(why)), 0);
    assert_true(pyenv_is_own("#!/usr/bin/env python3"));
    assert_true(pyenv_is_own("#! /usr/bin/env python3 -u"));
    assert_false(pyenv_is_own("#!/usr/bin/env python3 -O"));
    assert_false(pyenv_is_own("#!/usr/bin/env python2"));
    assert_false(pyenv_is_own("#!/bin/sh"));
    assert_false(pyenv_is_own("#!"));
    char line[4096];
    snprintf(line, sizeof(line), "#!%s", program);
    assert_true(pyenv_is_own(line));
    free(program);
    assert_int_equal(pyenv_resolve("/bin/true", &program, why, sizeof(why)), -ENOEXEC);
    assert_text(why, "does not answer like a Python");
    assert_int_equal(pyenv_resolve("/tmp", &program, why, sizeof(why)), -EINVAL);
    assert_text(why, "not a virtual environment");
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
        POOL_TEST(jobs_run_side_by_side),
        POOL_TEST(whole_trees_are_killed),
        POOL_TEST(forkserver_death_loses_work_and_is_mended),
        POOL_TEST(what_dies_unbegun_says_so),
        cmocka_unit_test_teardown(forkserver_that_cannot_start_refuses_work, teardown),
        POOL_TEST(no_descriptor_is_left),
        cmocka_unit_test_teardown(any_number_of_starts_and_kills_at_once, teardown),
        cmocka_unit_test_teardown(without_descriptors_work_waits, teardown),
        cmocka_unit_test_teardown(what_waits_is_given_back_without_descriptors, teardown),
        cmocka_unit_test(without_processes_work_is_given_back),
        /* the last: the limit stays raised */
        cmocka_unit_test_teardown(jobs_have_the_limit_that_we_were_given, teardown),
        cmocka_unit_test(shebangs_of_our_python),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
