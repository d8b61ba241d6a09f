/* The embedding: an interpreter that is python3 but for its start (no argv, no signal handlers), and the calls into
 * glue.py. An exception that escapes glue.py is a fault of ours or of a job that tore the interpreter; it becomes a
 * sentence like any other. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "net/frame.h"
#include "worker/glue.h"
#include "worker/python.h"

static PyObject *glue; /* the dictionary of glue.py; borrowed functions of it live as long */

/* The pending exception as one sentence; clears it. */
static void take_error(char *why, size_t size) {
    PyObject *type, *value, *trace, *text = NULL;

    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    if (value)
        text = PyObject_Str(value);
    const char *words = text ? PyUnicode_AsUTF8(text) : NULL;
    snprintf(why, size, "%s: %s", type ? ((PyTypeObject *)type)->tp_name : "error", words ? words : "?");
    for (char *p = why; *p; p++)
        if ((unsigned char)*p < ' ')
            *p = ' ';
    PyErr_Clear();
    Py_XDECREF(text);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
}

static PyObject *glue_call(const char *name, PyObject *args) {
    PyObject *func = args ? PyDict_GetItemString(glue, name) : NULL;
    PyObject *result = func ? PyObject_CallObject(func, args) : NULL;

    Py_XDECREF(args);
    if (!result && !PyErr_Occurred())
        PyErr_Format(PyExc_RuntimeError, "the worker lost its %s", name);
    return result;
}

/* For glue functions without a result worth having; an exception in one is shown on stderr. True when it went well. */
static bool glue_do(const char *name) {
    PyObject *result = glue_call(name, PyTuple_New(0));

    if (!result) {
        PyErr_WriteUnraisable(NULL);
        return false;
    }
    Py_DECREF(result);
    return true;
}

static PyStatus initialise(const char *program) {
    PyPreConfig pre;
    PyConfig config;
    PyStatus status;

    PyPreConfig_InitPythonConfig(&pre);
    pre.utf8_mode = 1;
    pre.parse_argv = 0;
    pre.coerce_c_locale = 0; /* programs are to find LC_CTYPE as it was */
    status = Py_PreInitialize(&pre);
    if (PyStatus_Exception(status))
        return status;
    PyConfig_InitPythonConfig(&config);
    config.parse_argv = 0;
    config.install_signal_handlers = 0;
    status = PyConfig_SetBytesString(&config, &config.program_name, program);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    return status;
}

int python_start(const char *program, char *why, size_t why_size) {
    /* As python3 does; before it starts, so that signal.getsignal says so too. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    PyStatus status = initialise(program);
    if (PyStatus_Exception(status)) {
        snprintf(why, why_size, "Python %s does not start: %s", program, status.err_msg ? status.err_msg : "it exits");
        return -1;
    }
    PyObject *code = Py_CompileString(glue_source, "<ppfs>", Py_file_input);
    glue = PyDict_New();
    PyObject *done = NULL;
    if (code && glue && PyDict_SetItemString(glue, "__builtins__", PyEval_GetBuiltins()) == 0 &&
        PyRun_String("__name__ = '_ppfs'", Py_file_input, glue, glue))
        done = PyEval_EvalCode(code, glue, glue);
    Py_XDECREF(code);
    if (!done) {
        char words[256];
        take_error(words, sizeof(words));
        snprintf(why, why_size, "Python %s lacks a part of its standard library: %s", program, words);
        return -1;
    }
    Py_DECREF(done);
    return glue_do("settle") ? 0 : -1;
}

const char *python_version(void) {
    static char version[32];

    snprintf(version, sizeof(version), "%.*s", (int)strcspn(Py_GetVersion(), " "), Py_GetVersion());
    return version;
}

void python_before_fork(void) {
    PyOS_BeforeFork();
}

void python_after_fork(void) {
    PyOS_AfterFork_Parent();
}

void python_forked(void) {
    PyOS_AfterFork_Child();
    glue_do("after_fork");
}

void python_begin_worker(void) {
    glue_do("begin_worker");
}

void python_rehearse(void) {
    glue_do("rehearse");
}

void python_flush(void) {
    glue_do("flush");
    fflush(NULL);
}

/* The job's bytes: a view of the frame, or the file read whole. New reference, or NULL with an exception. */
static PyObject *payload_object(const struct work *w, bool copy) {
    if (!copy)
        return PyMemoryView_FromMemory((char *)w->payload, (Py_ssize_t)w->payload_size, PyBUF_READ);
    return PyBytes_FromStringAndSize(w->payload, (Py_ssize_t)w->payload_size);
}

static PyObject *env_object(const char *const *env) {
    PyObject *list = env ? PyList_New(0) : Py_NewRef(Py_None);

    for (size_t i = 0; env && list && env[i]; i++) {
        PyObject *pair = PyBytes_FromString(env[i]);
        if (!pair || PyList_Append(list, pair))
            Py_CLEAR(list);
        Py_XDECREF(pair);
    }
    return list;
}

static void reply_bytes(PyObject *o, const void **bytes, size_t *size) {
    if (!PyBytes_Check(o))
        return;
    *bytes = PyBytes_AS_STRING(o);
    *size = (size_t)PyBytes_GET_SIZE(o);
}

void python_call(const struct work *w, const char *cwd, const char *const *env, struct python_reply *reply) {
    PyObject *payload = payload_object(w, false), *pairs = env_object(env), *why, *result, *trace;
    PyObject *cwd_name = PyUnicode_DecodeFSDefault(cwd), *name = PyUnicode_DecodeFSDefault(w->name);
    PyObject *node = PyUnicode_DecodeFSDefault(w->node), *attempt = PyUnicode_FromFormat("%u", (unsigned)w->attempt);
    PyObject *tuple = NULL;
    int end;

    *reply = (struct python_reply){.end = WORK_RAISED};
    if (payload && pairs && cwd_name && name && node && attempt)
        tuple = glue_call("run_call",
                          Py_BuildValue("iOOOOOO", (int)w->kind, payload, name, attempt, node, cwd_name, pairs));
    if (tuple && PyArg_ParseTuple(tuple, "iO!OO", &end, &PyBytes_Type, &why, &result, &trace)) {
        reply->end = (enum work_end)end;
        snprintf(reply->why, sizeof(reply->why), "%s", PyBytes_AS_STRING(why));
        reply_bytes(result, &reply->result, &reply->result_size);
        reply_bytes(trace, &reply->trace, &reply->trace_size);
        reply->owner = Py_NewRef(tuple);
    } else {
        take_error(reply->why, sizeof(reply->why));
    }
    Py_XDECREF(tuple);
    Py_XDECREF(payload);
    Py_XDECREF(pairs);
    Py_XDECREF(cwd_name);
    Py_XDECREF(name);
    Py_XDECREF(node);
    Py_XDECREF(attempt);
}

void python_reply_clear(struct python_reply *reply) {
    Py_XDECREF((PyObject *)reply->owner);
    reply->owner = NULL;
}

bool python_restore(const char *cwd, const int *changed) {
    PyObject *result;
    bool leave = true;

    if (changed[0]) {
        PyObject *numbers = PyList_New(0);
        for (size_t i = 0; numbers && changed[i]; i++) {
            PyObject *number = PyLong_FromLong(changed[i]);
            if (!number || PyList_Append(numbers, number))
                Py_CLEAR(numbers);
            Py_XDECREF(number);
        }
        result = glue_call("restore_signals", numbers ? Py_BuildValue("(N)", numbers) : NULL);
        Py_XDECREF(result);
    }
    if (!PyErr_Occurred()) {
        result = glue_call("restore", Py_BuildValue("(N)", PyUnicode_DecodeFSDefault(cwd)));
        leave = !result || result == Py_True;
        Py_XDECREF(result);
    }
    PyErr_Clear();
    fflush(NULL);
    return !leave;
}

int python_script(const struct work *w, const char *cwd, const char *const *env, char *why, size_t why_size) {
    PyObject *args = Py_BuildValue("NNNNNN", payload_object(w, true), PyUnicode_DecodeFSDefault(w->name),
                                   PyUnicode_FromFormat("%u", (unsigned)w->attempt), PyUnicode_DecodeFSDefault(w->node),
                                   PyUnicode_DecodeFSDefault(cwd), env_object(env));
    PyObject *result = glue_call("run_script", args);
    PyObject *words;
    int status = 1;

    if (result && PyArg_ParseTuple(result, "iO!", &status, &PyBytes_Type, &words)) {
        snprintf(why, why_size, "%s", PyBytes_AS_STRING(words));
    } else {
        take_error(why, why_size);
        status = status ? status : 1;
    }
    Py_XDECREF(result);
    fflush(NULL);
    return status;
}

/* A list of bytes as one malloc'd block: the pointers, then the words. */
static char **words_of(PyObject *list) {
    Py_ssize_t count = PyList_GET_SIZE(list), size = 0;

    for (Py_ssize_t i = 0; i < count; i++)
        size += PyBytes_GET_SIZE(PyList_GET_ITEM(list, i)) + 1;
    char **argv = malloc(((size_t)count + 1) * sizeof(*argv) + (size_t)size);
    if (!argv)
        return NULL;
    char *at = (char *)(argv + count + 1);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *word = PyList_GET_ITEM(list, i);
        argv[i] = at;
        memcpy(at, PyBytes_AS_STRING(word), (size_t)PyBytes_GET_SIZE(word) + 1);
        at += PyBytes_GET_SIZE(word) + 1;
    }
    argv[count] = NULL;
    return argv;
}

int python_read_run(const struct work *w, char ***argv, void **input, size_t *input_size, char *why, size_t why_size) {
    PyObject *payload = payload_object(w, true);
    PyObject *result = glue_call("read_run", payload ? Py_BuildValue("(N)", payload) : NULL), *list, *given;
    int err = -1;

    *argv = NULL;
    *input = NULL;
    if (result && PyBytes_Check(result)) {
        snprintf(why, why_size, "%s", PyBytes_AS_STRING(result));
    } else if (result && PyArg_ParseTuple(result, "O!O!", &PyList_Type, &list, &PyBytes_Type, &given)) {
        *argv = words_of(list);
        *input_size = (size_t)PyBytes_GET_SIZE(given);
        *input = malloc(*input_size + 1);
        err = *argv && *input ? 0 : -1;
        if (err)
            snprintf(why, why_size, "no memory for the arguments of the program");
        else
            memcpy(*input, PyBytes_AS_STRING(given), *input_size);
    } else {
        take_error(why, why_size);
    }
    Py_XDECREF(result);
    if (err) {
        free(*argv);
        free(*input);
        *argv = NULL;
        *input = NULL;
    }
    return err;
}

/* --- leases ------------------------------------------------------------------------------------------------------ */
enum stage { STAGE_LOAD, STAGE_CALL, STAGE_DUMP }; /* as in glue.py */
enum { COPY_MAX = 16 * 1024, ENVIRON_KEPT = 256 };

/* What a call needs, looked up once; all of it lives as long as the process. */
static struct {
    pid_t self;
    PyObject *loads, *dumps, *apply, *five, *flush, *out,
        *err;       /* out, err: sys.stdout and sys.stderr as they should be */
    PyObject *func; /* the function used last, of this hash; NULL: none */
    uint8_t hash[32];
    /* at python_lease_mark: */
    char **environ_at, *environ_kept[ENVIRON_KEPT];
    size_t environ_count;
    Py_ssize_t modules, path, argv;
} lease;

static PyObject *glue_get(const char *name) {
    return PyDict_GetItemString(glue, name);
}

static size_t environ_length(void) {
    size_t n = 0;
    while (environ && environ[n])
        n++;
    return n;
}

void python_begin_lease(const struct work *w, const char *cwd, const char *const *env) {
    PyObject *pickle = PyImport_ImportModule("pickle");
    PyObject *result = glue_call("begin_lease", Py_BuildValue("NNNNN", PyUnicode_DecodeFSDefault(w->name),
                                                              PyUnicode_FromFormat("%u", (unsigned)w->attempt),
                                                              PyUnicode_DecodeFSDefault(w->node),
                                                              PyUnicode_DecodeFSDefault(cwd), env_object(env)));

    if (!result)
        PyErr_WriteUnraisable(NULL);
    Py_XDECREF(result);
    lease.self = getpid();
    Py_XSETREF(lease.loads, pickle ? PyObject_GetAttrString(pickle, "loads") : NULL);
    Py_XSETREF(lease.dumps, pickle ? PyObject_GetAttrString(pickle, "dumps") : NULL);
    Py_XDECREF(pickle);
    if (!lease.five) {
        lease.five = PyLong_FromLong(5);
        lease.flush = PyUnicode_InternFromString("flush");
        lease.apply = glue_get("lease_apply");
        lease.out = glue_get("_stdout");
        lease.err = glue_get("_stderr");
    }
    PyErr_Clear();
    python_lease_mark();
}

static Py_ssize_t sys_length(const char *name) {
    PyObject *list = PySys_GetObject(name);
    return list && PyList_CheckExact(list) ? PyList_GET_SIZE(list) : -1;
}

void python_lease_mark(void) {
    lease.environ_at = environ;
    lease.environ_count = environ_length();
    if (lease.environ_count < ENVIRON_KEPT)
        memcpy(lease.environ_kept, environ, lease.environ_count * sizeof(*environ));
    lease.modules = PyDict_GET_SIZE(PyImport_GetModuleDict());
    lease.path = sys_length("path");
    lease.argv = sys_length("argv");
}

/* os.environ changes through putenv, which replaces the pointer of what it changes. */
static bool environ_changed(void) {
    return environ != lease.environ_at || environ_length() != lease.environ_count ||
           (lease.environ_count < ENVIRON_KEPT &&
            memcmp(environ, lease.environ_kept, lease.environ_count * sizeof(*environ)) != 0);
}

static bool flush_one(PyObject *stream) {
    PyObject *done = PyObject_CallMethodNoArgs(stream, lease.flush);

    Py_XDECREF(done);
    PyErr_Clear();
    return done;
}

bool python_lease_smells(void) {
    bool fine = flush_one(lease.out) && flush_one(lease.err);

    fflush(NULL);
    return !fine || PySys_GetObject("stdout") != lease.out || PySys_GetObject("stderr") != lease.err ||
           environ_changed() || PyDict_GET_SIZE(PyImport_GetModuleDict()) != lease.modules ||
           sys_length("path") != lease.path || sys_length("argv") != lease.argv;
}

void python_lease_rest(const char *cwd) {
    PyObject *result = glue_call("forget_changed_modules", Py_BuildValue("(N)", PyUnicode_DecodeFSDefault(cwd)));

    if (!result)
        PyErr_WriteUnraisable(NULL);
    Py_XDECREF(result);
}

/* Bytes as pickle.loads takes them: a copy where that is the cheaper of the two. */
static PyObject *bytes_object(const uint8_t *bytes, size_t size) {
    if (size <= COPY_MAX)
        return PyBytes_FromStringAndSize((const char *)bytes, (Py_ssize_t)size);
    return PyMemoryView_FromMemory((char *)bytes, (Py_ssize_t)size, PyBUF_READ);
}

/* Takes owner over. What is not bytes, or more than a stream can hold, is left out. */
static bool set_answer(struct python_answer *a, enum pool_answer kind, PyObject *owner) {
    if (!owner || !PyBytes_Check(owner) || PyBytes_GET_SIZE(owner) > FRAME_WHOLE_MAX) {
        Py_XDECREF(owner);
        return false;
    }
    *a = (struct python_answer){kind, PyBytes_AS_STRING(owner), (size_t)PyBytes_GET_SIZE(owner), owner};
    return true;
}

/* The pending exception as the answer. value: what could not be dumped, or NULL. */
static void answer_error(struct python_answer *a, bool json, enum stage stage, PyObject *value) {
    PyObject *type, *error, *trace;

    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (trace)
        PyException_SetTraceback(error, trace);
    if (getpid() != lease.self) /* a process that the call has forked came back through here */
        Py_XDECREF(glue_call("leave_like_python", Py_BuildValue("(O)", error ? error : Py_None)));
    if (!set_answer(a, ANSWER_ERROR,
                    glue_call("lease_error", Py_BuildValue("iiOO", (int)json, (int)stage, error ? error : Py_None,
                                                           value ? value : Py_None)))) {
        static const char text[] = "\1\0\0\0\0\0\0\0the call failed, and why cannot be told\n";
        PyErr_Clear();
        *a = (struct python_answer){.kind = ANSWER_ERROR, .bytes = text + (json ? 8 : 0)};
        a->size = sizeof(text) - 1 - (json ? 8 : 0);
    }
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(trace);
}

static void answer_refusal(struct python_answer *a, bool json, const char *sentence) {
    if (!set_answer(a, ANSWER_ERROR, glue_call("lease_refuse", Py_BuildValue("is", (int)json, sentence))))
        answer_error(a, json, STAGE_LOAD, NULL);
}

bool python_find_function(const uint8_t hash[32]) {
    if (lease.func && memcmp(lease.hash, hash, sizeof(lease.hash)) == 0)
        return true;
    PyObject *func = glue_call("find_function", Py_BuildValue("(y#)", hash, (Py_ssize_t)sizeof(lease.hash)));
    if (!func || func == Py_None) {
        PyErr_Clear();
        Py_XDECREF(func);
        return false;
    }
    memcpy(lease.hash, hash, sizeof(lease.hash));
    Py_XSETREF(lease.func, func);
    return true;
}

bool python_add_function(const uint8_t hash[32], const void *bytes, size_t size, struct python_answer *a) {
    if (!size) {
        answer_refusal(a, false, "the function of the call is not known: its FUNC frame must come before the call");
        return false;
    }
    PyObject *func = glue_call("add_function", Py_BuildValue("(y#N)", hash, (Py_ssize_t)32, bytes_object(bytes, size)));
    if (!func) {
        answer_error(a, false, STAGE_LOAD, NULL);
        return false;
    }
    memcpy(lease.hash, hash, sizeof(lease.hash));
    Py_XSETREF(lease.func, func);
    return true;
}

/* A plain pickle of (args, kwargs): the two, borrowed from what. */
static bool plain(PyObject *what, Py_ssize_t first, PyObject **args, PyObject **kwargs) {
    if (!PyTuple_CheckExact(what) || PyTuple_GET_SIZE(what) != first + 2)
        return false;
    *args = PyTuple_GET_ITEM(what, first);
    *kwargs = PyTuple_GET_ITEM(what, first + 1);
    return PyTuple_CheckExact(*args) && PyDict_CheckExact(*kwargs);
}

/* Sets func, args and kwargs, which what owns, but for func in a CALL_HASH. NULL with an exception; Py_None: not for a
 * lease. */
static PyObject *load_call(enum call_format format, PyObject *payload, PyObject **func, PyObject **args,
                           PyObject **kwargs) {
    bool hash = format == CALL_HASH;
    PyObject *what = NULL;

    if (format == CALL_JSON) {
        what = glue_call("lease_json", PyTuple_Pack(1, payload));
    } else {
        what = PyObject_CallOneArg(lease.loads, payload);
        if (what && plain(what, hash ? 0 : 1, args, kwargs)) {
            *func = hash ? lease.func : PyTuple_GET_ITEM(what, 0);
            if (PyCallable_Check(*func))
                return what;
        }
        if (what || PyErr_ExceptionMatches(PyExc_ModuleNotFoundError)) {
            PyErr_Clear();
            Py_XDECREF(what);
            what = glue_call("lease_load", PyTuple_Pack(2, payload, hash ? lease.func : Py_None));
        }
    }
    if (what && what != Py_None && !PyArg_ParseTuple(what, "OOO", func, args, kwargs))
        Py_CLEAR(what);
    return what;
}

void python_lease_call(enum call_format format, const void *bytes, size_t size, struct python_answer *a) {
    bool json = format == CALL_JSON;
    PyObject *func, *args, *kwargs, *value = NULL, *data = NULL;
    PyObject *payload = bytes_object(bytes, size);
    PyObject *what = payload ? load_call(format, payload, &func, &args, &kwargs) : NULL;

    *a = (struct python_answer){.kind = ANSWER_NEED};
    if (what == Py_None)
        goto out;
    if (!what) {
        answer_error(a, json, STAGE_LOAD, NULL);
        goto out;
    }
    value = PyObject_Vectorcall(lease.apply, (PyObject *[]){func, args, kwargs}, 3, NULL);
    if (!value) {
        answer_error(a, json, STAGE_CALL, NULL);
        goto out;
    }
    if (json) {
        data = glue_call("json_text", PyTuple_Pack(1, value));
    } else {
        data = PyObject_CallFunctionObjArgs(lease.dumps, value, lease.five, NULL);
        if (!data) {
            PyErr_Clear();
            data = glue_call("lease_dump", PyTuple_Pack(1, value));
        }
    }
    if (!data)
        answer_error(a, json, STAGE_DUMP, value);
    else if (getpid() != lease.self)
        Py_XDECREF(glue_call("leave_like_python", Py_BuildValue("(O)", Py_None)));
    else if (!set_answer(a, ANSWER_VALUE, Py_NewRef(data)))
        answer_refusal(a, json, "the result is larger than 1 GiB");
out:
    Py_XDECREF(data);
    Py_XDECREF(value);
    Py_XDECREF(what);
    Py_XDECREF(payload);
}

void python_answer_clear(struct python_answer *a) {
    Py_XDECREF((PyObject *)a->owner);
    a->owner = NULL;
}
