/* The embedded interpreter, which is python3 without argv and signal handlers, and the calls into bootstrap.py. An
 * exception that escapes bootstrap.py is a fault of ours or of a job that broke the interpreter; it becomes a sentence
 * like any other. */
#include "worker/forkserver/python_int.h"

#include "net/session/frame.h"
#include "worker/forkserver/bootstrap.h"

static PyObject *bootstrap; /* the dictionary of bootstrap.py; borrowed functions of it live as long */

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

PyObject *bootstrap_call(const char *name, PyObject *args) {
    PyObject *func = args ? PyDict_GetItemString(bootstrap, name) : NULL;
    PyObject *result = func ? PyObject_CallObject(func, args) : NULL;

    Py_XDECREF(args);
    if (!result && !PyErr_Occurred())
        PyErr_Format(PyExc_RuntimeError, "the worker lost its %s", name);
    return result;
}

PyObject *bootstrap_get(const char *name) {
    return PyDict_GetItemString(bootstrap, name);
}

/* Calls a function of bootstrap.py for its effect alone; an exception is shown on stderr. True when there was none. */
static bool bootstrap_do(const char *name) {
    PyObject *result = bootstrap_call(name, PyTuple_New(0));

    if (!result) {
        PyErr_WriteUnraisable(NULL);
        return false;
    }
    Py_DECREF(result);
    return true;
}

/* own_locale: python3 reads the locale of the environment; otherwise it is UTF-8, whatever the locale. */
static PyStatus initialise(const char *program, bool own_locale) {
    PyPreConfig pre;
    PyConfig config;
    PyStatus status;

    PyPreConfig_InitPythonConfig(&pre);
    pre.parse_argv = 0;
    if (!own_locale) {
        pre.utf8_mode = 1;
        pre.coerce_c_locale = 0; /* programs are to find LC_CTYPE as it was */
    }
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

static char *own_program; /* of python_start */

const char *python_program(void) {
    return own_program;
}

/* The numbers that bootstrap.py shares with C. */
static bool set_constants(PyObject *names) {
#define CONSTANT(name)                                                                                                 \
    { #name, name }
    static const struct {
        const char *name;
        long value;
    } constants[] = {CONSTANT(WORK_DONE),    CONSTANT(WORK_RAISED), CONSTANT(WORK_REFUSED), CONSTANT(WORK_JSON_CALL),
                     CONSTANT(WORK_CALL),    CONSTANT(STAGE_LOAD),  CONSTANT(STAGE_CALL),   CONSTANT(STAGE_DUMP),
                     CONSTANT(ERROR_RAISED), CONSTANT(ERROR_PICKLE)};
#undef CONSTANT
    bool fine = true;

    for (size_t i = 0; fine && i < sizeof(constants) / sizeof(constants[0]); i++) {
        PyObject *value = PyLong_FromLong(constants[i].value);
        fine = value && PyDict_SetItemString(names, constants[i].name, value) == 0;
        Py_XDECREF(value);
    }
    return fine;
}

static int start(const char *program, bool own_locale, bool warm, char *why, size_t why_size) {
    /* Ignores signals as python3 does, but before it starts, so that signal.getsignal says so too. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    own_program = strdup(program);
    PyStatus status = initialise(program, own_locale);
    if (PyStatus_Exception(status)) {
        snprintf(why, why_size, "Python %s does not start: %s", program, status.err_msg ? status.err_msg : "it exits");
        return -1;
    }
    python_patch_watch();
    PyObject *code = Py_CompileString(bootstrap_source, "<ppfs>", Py_file_input);
    bootstrap = PyDict_New();
    PyObject *done = NULL;
    if (code && bootstrap && PyDict_SetItemString(bootstrap, "__builtins__", PyEval_GetBuiltins()) == 0 &&
        PyDict_SetItemString(bootstrap, "WARM", warm ? Py_True : Py_False) == 0 && set_constants(bootstrap) &&
        PyRun_String("__name__ = '_ppfs'", Py_file_input, bootstrap, bootstrap))
        done = PyEval_EvalCode(code, bootstrap, bootstrap);
    Py_XDECREF(code);
    if (!done) {
        char words[256];
        take_error(words, sizeof(words));
        snprintf(why, why_size, "Python %s lacks a part of its standard library: %s", program, words);
        return -1;
    }
    Py_DECREF(done);
    return bootstrap_do("settle") ? 0 : -1;
}

int python_start(const char *program, char *why, size_t why_size) {
    return start(program, false, true, why, why_size);
}

int python_start_fresh(const char *program, bool locale, char *why, size_t why_size) {
    return start(program, locale, false, why, why_size);
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
    bootstrap_do("after_fork");
}

void python_begin_worker(void) {
    bootstrap_do("begin_worker");
    python_order_mark();
}

void python_rehearse(void) {
    bootstrap_do("rehearse");
}

void python_flush(void) {
    bootstrap_do("flush");
    fflush(NULL);
}

/* The job's bytes: a view of the frame, or the file read whole. New reference, or NULL with an exception. */
static PyObject *payload_object(const struct work *w, bool copy) {
    if (!copy)
        return PyMemoryView_FromMemory((char *)w->payload, (Py_ssize_t)w->payload_size, PyBUF_READ);
    return PyBytes_FromStringAndSize(w->payload, (Py_ssize_t)w->payload_size);
}

PyObject *bootstrap_env(const char *const *env) {
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
    PyObject *why, *result, *trace;
    int end;

    *reply = (struct python_reply){.end = WORK_RAISED};
    python_patch_begin();
    PyObject *tuple = bootstrap_call(
        "run_call", Py_BuildValue("iNNNNNN", (int)w->kind, payload_object(w, false), PyUnicode_DecodeFSDefault(w->name),
                                  PyUnicode_FromFormat("%u", (unsigned)w->attempt), PyUnicode_DecodeFSDefault(w->node),
                                  PyUnicode_DecodeFSDefault(cwd), bootstrap_env(env)));
    if (tuple && PyArg_ParseTuple(tuple, "iO!OO", &end, &PyBytes_Type, &why, &result, &trace)) {
        reply->end = (enum work_end)end;
        snprintf(reply->why, sizeof(reply->why), "%s", PyBytes_AS_STRING(why));
        reply_bytes(result, &reply->result, &reply->result_size);
        reply_bytes(trace, &reply->trace, &reply->trace_size);
        reply->owner = tuple;
    } else {
        take_error(reply->why, sizeof(reply->why));
        Py_XDECREF(tuple);
    }
}

void python_reply_clear(struct python_reply *reply) {
    Py_XDECREF((PyObject *)reply->owner);
    reply->owner = NULL;
}

void python_restore_signals(const int *changed) {
    PyObject *numbers = PyList_New(0), *result;

    if (PyErr_CheckSignals()) /* a signal that has come and is not handled yet goes to a handler of the call */
        PyErr_Clear();
    for (size_t i = 0; numbers && changed[i]; i++) {
        PyObject *number = PyLong_FromLong(changed[i]);
        if (!number || PyList_Append(numbers, number))
            Py_CLEAR(numbers);
        Py_XDECREF(number);
    }
    result = bootstrap_call("restore_signals", numbers ? Py_BuildValue("(N)", numbers) : NULL);
    Py_XDECREF(result);
    PyErr_Clear();
}

bool python_restore(const char *cwd) {
    PyObject *result =
        bootstrap_call("restore", Py_BuildValue("(Ni)", PyUnicode_DecodeFSDefault(cwd), (int)python_order_touched()));
    bool leave = !result || result == Py_True;

    Py_XDECREF(result);
    PyErr_Clear();
    leave = python_patch_left() || leave;
    python_order_reseed();
    python_order_mark();
    fflush(NULL);
    return !leave;
}

int python_script(const struct work *w, const char *file, const char *cwd, const char *const *env, char *why,
                  size_t why_size) {
    PyObject *source = w->payload_size ? payload_object(w, true) : Py_NewRef(Py_None);
    PyObject *args =
        Py_BuildValue("NNNNNNN", source, PyUnicode_DecodeFSDefault(file ? file : ""),
                      PyUnicode_DecodeFSDefault(w->name), PyUnicode_FromFormat("%u", (unsigned)w->attempt),
                      PyUnicode_DecodeFSDefault(w->node), PyUnicode_DecodeFSDefault(cwd), bootstrap_env(env));

    python_patch_unwatch();
    PyObject *result = bootstrap_call("run_script", args);
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

void python_travel(bool out, int fd, const char *names, char *why, size_t why_size) {
    PyObject *result = bootstrap_call(
        "travel", Py_BuildValue("OiN", out ? Py_True : Py_False, fd, PyUnicode_DecodeFSDefault(names ? names : "")));

    if (result && PyBytes_Check(result))
        snprintf(why, why_size, "%s", PyBytes_AS_STRING(result));
    else
        take_error(why, why_size);
    Py_XDECREF(result);
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
    PyObject *result = bootstrap_call("read_run", payload ? Py_BuildValue("(N)", payload) : NULL), *list, *given;
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
