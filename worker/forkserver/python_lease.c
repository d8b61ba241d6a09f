/* The Python of a lease: C takes a plain call from its pickle to the pickle of its value, and looks without a system
 * call whether it has left something changed. Any other call goes through calls.py. */
#include "worker/forkserver/python_int.h"

#include "net/session/frame.h"
#include "worker/forkserver/order.h"
#include "worker/forkserver/watch.h"

#include <sys/mman.h>

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
    bool round_libc; /* a loaded module calls foreign functions unseen by watch.h */
} lease;

static size_t environ_length(void) {
    size_t n = 0;
    while (environ && environ[n])
        n++;
    return n;
}

void python_begin_lease(const struct work *w, const char *cwd, const char *const *env) {
    PyObject *pickle = PyImport_ImportModule("pickle");
    PyObject *result = bootstrap_call("begin_lease", Py_BuildValue("NNNNN", PyUnicode_DecodeFSDefault(w->name),
                                                                   PyUnicode_FromFormat("%u", (unsigned)w->attempt),
                                                                   PyUnicode_DecodeFSDefault(w->node),
                                                                   PyUnicode_DecodeFSDefault(cwd), bootstrap_env(env)));

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
        lease.apply = bootstrap_get("lease_apply");
    }
    PyErr_Clear();
    python_lease_mark();
}

static Py_ssize_t sys_length(const char *name) {
    PyObject *list = PySys_GetObject(name);
    return list && PyList_CheckExact(list) ? PyList_GET_SIZE(list) : -1;
}

/* Whether that module is loaded and calls foreign functions unseen by watch.h. */
static bool unseen(const char *name) {
    PyObject *module = PyDict_GetItemString(PyImport_GetModuleDict(), name);
    PyObject *file = module && PyModule_Check(module) ? PyModule_GetFilenameObject(module) : NULL;
    const char *path = file ? PyUnicode_AsUTF8(file) : NULL;
    bool seen = path && watch_foreign(path);

    Py_XDECREF(file);
    PyErr_Clear();
    return module && !seen;
}

void python_lease_mark(void) {
    lease.out = bootstrap_get("_stdout"); /* others, where a call closed them */
    lease.err = bootstrap_get("_stderr");
    lease.round_libc = unseen("_ctypes") || unseen("_cffi_backend");
    lease.environ_at = environ;
    lease.environ_count = environ_length();
    if (lease.environ_count < ENVIRON_KEPT)
        memcpy(lease.environ_kept, environ, lease.environ_count * sizeof(*environ));
    lease.modules = PyDict_GET_SIZE(PyImport_GetModuleDict());
    lease.path = sys_length("path");
    lease.argv = sys_length("argv");
    watch.foreign = false; /* order.py asks numpy where its generator is, which it tells by ctypes */
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
    return !fine || watch.touched || lease.round_libc || !order_rounding_same() || (watch.foreign && !order_same()) ||
           environ_changed() || python_order_differs() || PyDict_GET_SIZE(PyImport_GetModuleDict()) != lease.modules ||
           sys_length("path") != lease.path || sys_length("argv") != lease.argv;
}

void python_lease_rest(const char *cwd) {
    PyObject *result = bootstrap_call("forget_changed_modules", Py_BuildValue("(N)", PyUnicode_DecodeFSDefault(cwd)));

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

/* The owner of a mapped file, for as long as anything of Python's refers to it: its bytes are those of the call. */
struct mapped {
    PyObject head;
    void *map, *bytes;
    size_t map_size, size;
};

static int mapped_buffer(PyObject *self, Py_buffer *view, int flags) {
    struct mapped *m = (struct mapped *)self;
    return PyBuffer_FillInfo(view, self, m->bytes, (Py_ssize_t)m->size, 0, flags);
}

static void mapped_free(PyObject *self) {
    struct mapped *m = (struct mapped *)self;
    munmap(m->map, m->map_size);
    PyObject_Free(self);
}

static PyBufferProcs mapped_procs = {.bf_getbuffer = mapped_buffer};
static PyTypeObject mapped_type = {.ob_base = PyVarObject_HEAD_INIT(NULL, 0).tp_name = "ppfs.mapped",
                                   .tp_basicsize = sizeof(struct mapped),
                                   .tp_dealloc = mapped_free,
                                   .tp_as_buffer = &mapped_procs,
                                   .tp_flags = Py_TPFLAGS_DEFAULT,
                                   .tp_doc = "a large call"};

/* Takes the map over. */
static PyObject *mapped_object(void *map, size_t map_size, const void *bytes, size_t size) {
    struct mapped *m = PyType_Ready(&mapped_type) == 0 ? PyObject_New(struct mapped, &mapped_type) : NULL;

    if (!m) {
        munmap(map, map_size);
        return NULL;
    }
    m->map = map;
    m->map_size = map_size;
    m->bytes = (void *)bytes;
    m->size = size;
    PyObject *view = PyMemoryView_FromObject((PyObject *)m);
    Py_DECREF(m);
    return view;
}

/* Takes owner over. What is not bytes, or more than a stream can hold, is left out. */
static bool set_answer(struct python_answer *a, enum answer_kind kind, PyObject *owner) {
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
    if (getpid() != lease.self) /* this is a process that the call has forked */
        Py_XDECREF(bootstrap_call("leave_like_python", Py_BuildValue("(O)", error ? error : Py_None)));
    if (!set_answer(a, ANSWER_ERROR,
                    bootstrap_call("lease_error", Py_BuildValue("iiOO", (int)json, (int)stage, error ? error : Py_None,
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
    if (!set_answer(a, ANSWER_ERROR, bootstrap_call("lease_refuse", Py_BuildValue("is", (int)json, sentence))))
        answer_error(a, json, STAGE_LOAD, NULL);
}

bool python_find_function(const uint8_t hash[32]) {
    if (lease.func && memcmp(lease.hash, hash, sizeof(lease.hash)) == 0)
        return true;
    PyObject *func = bootstrap_call("find_function", Py_BuildValue("(y#)", hash, (Py_ssize_t)sizeof(lease.hash)));
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
    PyObject *func =
        bootstrap_call("add_function", Py_BuildValue("(y#N)", hash, (Py_ssize_t)32, bytes_object(bytes, size)));
    if (!func) {
        answer_error(a, false, STAGE_LOAD, NULL);
        return false;
    }
    memcpy(lease.hash, hash, sizeof(lease.hash));
    Py_XSETREF(lease.func, func);
    return true;
}

bool python_find_value(const uint8_t hash[32]) {
    PyObject *found = bootstrap_call("find_value", Py_BuildValue("(y#)", hash, (Py_ssize_t)sizeof(lease.hash)));
    bool there = found == Py_True;

    PyErr_Clear();
    Py_XDECREF(found);
    return there;
}

bool python_add_value(const uint8_t hash[32], const void *bytes, size_t size, struct python_answer *a) {
    if (!size) {
        answer_refusal(a, false, "a value of the call is not known: its FUNC frame must come before the call");
        return false;
    }
    PyObject *done =
        bootstrap_call("add_value", Py_BuildValue("(y#y#)", hash, (Py_ssize_t)32, bytes, (Py_ssize_t)size));
    if (!done)
        answer_error(a, false, STAGE_LOAD, NULL);
    Py_XDECREF(done);
    return done;
}

void python_drop_values(void) {
    Py_XDECREF(bootstrap_call("drop_values", PyTuple_New(0)));
    PyErr_Clear();
}

void python_lease_refuse(const char *sentence, struct python_answer *a) {
    answer_refusal(a, false, sentence);
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
static PyObject *load_call(enum call_format format, bool values, bool mapped, PyObject *payload, PyObject **func,
                           PyObject **args, PyObject **kwargs) {
    bool hash = format == CALL_HASH;
    PyObject *what = NULL;

    if (format == CALL_JSON) {
        what = bootstrap_call("lease_json", PyTuple_Pack(1, payload));
    } else if (values || mapped) {
        what = bootstrap_call(mapped ? "lease_load_mapped" : "lease_load_values",
                              PyTuple_Pack(2, payload, hash ? lease.func : Py_None));
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
            what = bootstrap_call("lease_load", PyTuple_Pack(2, payload, hash ? lease.func : Py_None));
        }
    }
    if (what && what != Py_None && !PyArg_ParseTuple(what, "OOO", func, args, kwargs))
        Py_CLEAR(what);
    return what;
}

/* Takes payload over. */
static void call(enum call_format format, bool values, bool mapped, PyObject *payload, struct python_answer *a) {
    bool json = format == CALL_JSON;
    PyObject *func, *args, *kwargs, *value = NULL, *data = NULL;
    PyObject *what = payload ? load_call(format, values, mapped, payload, &func, &args, &kwargs) : NULL;

    *a = (struct python_answer){.kind = ANSWER_NEED};
    if (what == Py_None)
        goto out;
    if (!what) {
        answer_error(a, json, STAGE_LOAD, NULL);
        goto out;
    }
    if (PyDict_GET_SIZE(PyImport_GetModuleDict()) != lease.modules) {
        Py_XDECREF(bootstrap_call("rebase", PyTuple_New(0)));
        PyErr_Clear();
    }
    value = PyObject_Vectorcall(lease.apply, (PyObject *[]){func, args, kwargs}, 3, NULL);
    if (!value) {
        answer_error(a, json, STAGE_CALL, NULL);
        goto out;
    }
    if (json) {
        data = bootstrap_call("json_text", PyTuple_Pack(1, value));
    } else {
        data = PyObject_CallFunctionObjArgs(lease.dumps, value, lease.five, NULL);
        if (!data) {
            PyErr_Clear();
            data = bootstrap_call("lease_dump", PyTuple_Pack(1, value));
        }
    }
    if (!data)
        answer_error(a, json, STAGE_DUMP, value);
    else if (getpid() != lease.self)
        Py_XDECREF(bootstrap_call("leave_like_python", Py_BuildValue("(O)", Py_None)));
    else if (!set_answer(a, ANSWER_VALUE, Py_NewRef(data)))
        answer_refusal(a, json, "the result is larger than 1 GiB");
out:
    Py_XDECREF(data);
    Py_XDECREF(value);
    Py_XDECREF(what);
    Py_XDECREF(payload);
}

void python_lease_call(enum call_format format, bool values, const void *bytes, size_t size, void *map, size_t map_size,
                       struct python_answer *a) {
    PyObject *payload = map ? mapped_object(map, map_size, bytes, size) : bytes_object(bytes, size);
    PyObject *context = PyContext_New(); /* decimal's and others' settings are the call's alone */

    if (context && PyContext_Enter(context))
        Py_CLEAR(context);
    PyErr_Clear();
    call(format, values, map, payload, a);
    if (context && PyContext_Exit(context))
        PyErr_Clear();
    Py_XDECREF(context);
}

void python_answer_clear(struct python_answer *a) {
    Py_XDECREF((PyObject *)a->owner);
    a->owner = NULL;
}
