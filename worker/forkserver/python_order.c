/* The quick look at the Python of a worker after each call of a lease: order.py's rows, names that stand in
 * dictionaries, and the generators of random numbers, without a call of Python where that is not needed. */
#include "worker/forkserver/python_int.h"

enum { MT_WORDS = 624, MT_LOOKED_AT = 3 };

/* A Mersenne Twister somewhere in memory. Drawing from it moves the position up, and changes the words once in MT_WORDS
 * draws; whoever seeds it or sets its state changes the words or moves it back, and would make the next call's numbers
 * known. */
struct twister {
    const uint32_t *words; /* NULL: none */
    const int *position;
    uint32_t seen[MT_LOOKED_AT];
    int seen_position;
};

static struct {
    struct twister own, numpy;
    Py_ssize_t modules;
    PyObject *rows, *names; /* order.py's lists */
    PyObject *classes;      /* a dictionary; ours */
#if PY_VERSION_HEX < 0x030c0000
    Py_ssize_t tagged;
    uint64_t *tags; /* the dictionaries of names have these as long as nobody changes them */
#else
    bool touched; /* one of them */
    int watcher;  /* 0: not yet, else 1 more */
#endif
} at_mark; /* at python_order_mark */

static bool twister_changed(const struct twister *t) {
    static const int looked_at[MT_LOOKED_AT] = {0, 1, MT_WORDS / 2};

    if (!t->words)
        return false;
    for (int i = 0; i < MT_LOOKED_AT; i++)
        if (t->words[looked_at[i]] != t->seen[i])
            return true;
    return *t->position < t->seen_position;
}

static void twister_note(struct twister *t) {
    if (!t->words)
        return;
    t->seen[0] = t->words[0];
    t->seen[1] = t->words[1];
    t->seen[2] = t->words[MT_WORDS / 2];
    t->seen_position = *t->position;
}

/* Where the state of the module random's generator is: behind the head of its object, as getstate() confirms. */
static void find_own(struct twister *t) {
    PyObject *module = bootstrap_get("_random"), *object, *state = NULL;
    struct {
        PyObject head;
        int position;
        uint32_t words[MT_WORDS];
    } const *seen;

    object = module && module != Py_None ? PyObject_GetAttrString(module, "_inst") : NULL;
    state = object ? PyObject_CallMethod(object, "getstate", NULL) : NULL;
    PyObject *words = state && PyTuple_Check(state) && PyTuple_GET_SIZE(state) > 1 ? PyTuple_GET_ITEM(state, 1) : NULL;
    bool fits = words && PyTuple_Check(words) && PyTuple_GET_SIZE(words) == MT_WORDS + 1 &&
                Py_TYPE(object)->tp_basicsize >= (Py_ssize_t)sizeof(*seen);
    seen = (const void *)object;
    for (Py_ssize_t i = 0; fits && i < MT_WORDS; i++)
        fits = PyLong_AsUnsignedLong(PyTuple_GET_ITEM(words, i)) == seen->words[i];
    if (fits && PyLong_AsLong(PyTuple_GET_ITEM(words, MT_WORDS)) == seen->position)
        *t = (struct twister){.words = seen->words, .position = &seen->position}; /* the module keeps it alive */
    Py_XDECREF(state);
    Py_XDECREF(object);
    PyErr_Clear();
}

static void find_numpy(struct twister *t) {
    PyObject *address = bootstrap_call("numpy_generator", PyTuple_New(0));
    const uint32_t *words = address ? PyLong_AsVoidPtr(address) : NULL;

    PyErr_Clear();
    Py_XDECREF(address);
    if (words != t->words)
        *t = (struct twister){.words = words, .position = (const int *)(words ? words + MT_WORDS : NULL)};
}

/* --- names that stand in dictionaries: changes are told by Python itself --- */
static PyObject *names_of(Py_ssize_t i, Py_ssize_t which) {
    return PyTuple_GET_ITEM(PyList_GET_ITEM(at_mark.names, i), which);
}

#if PY_VERSION_HEX < 0x030c0000
static void names_note(void) {
    Py_ssize_t count = PyList_GET_SIZE(at_mark.names);
    uint64_t *more = PyMem_Realloc(at_mark.tags, (size_t)count * sizeof(*more));

    at_mark.tags = more ? more : at_mark.tags;
    at_mark.tagged = more ? count : 0;
    for (Py_ssize_t i = 0; i < at_mark.tagged; i++)
        at_mark.tags[i] = ((PyDictObject *)names_of(i, 0))->ma_version_tag;
}

static bool names_changed(void) {
    for (Py_ssize_t i = 0; i < at_mark.tagged; i++)
        if (at_mark.tags[i] != ((PyDictObject *)names_of(i, 0))->ma_version_tag)
            return true;
    return at_mark.tagged != PyList_GET_SIZE(at_mark.names); /* also without memory for them: look each time */
}
#else
static int on_change(PyDict_WatchEvent event, PyObject *dict, PyObject *key, PyObject *value) {
    at_mark.touched = true;
    return 0;
}

static void names_note(void) {
    if (!at_mark.watcher)
        at_mark.watcher = PyDict_AddWatcher(on_change) + 1;
    for (Py_ssize_t i = 0; at_mark.watcher && i < PyList_GET_SIZE(at_mark.names); i++)
        PyDict_Watch(at_mark.watcher - 1, names_of(i, 0));
    PyErr_Clear();
    at_mark.touched = !at_mark.watcher; /* none is left to be had: look each time */
}

static bool names_changed(void) {
    return at_mark.touched;
}
#endif

void python_order_mark(void) {
    Py_ssize_t modules = PyDict_GET_SIZE(PyImport_GetModuleDict());

    if (!at_mark.own.words)
        find_own(&at_mark.own);
    if (modules != at_mark.modules)
        find_numpy(&at_mark.numpy);
    at_mark.modules = modules;
    at_mark.rows = bootstrap_get("_rows");
    at_mark.names = bootstrap_get("_names");
    /* a call that imports cloudpickle puts another there */
    Py_XSETREF(at_mark.classes, Py_NewRef(bootstrap_get("_classes")));
    names_note();
    twister_note(&at_mark.own);
    twister_note(&at_mark.numpy);
}

static void reseed(const struct twister *t) {
    if (twister_changed(t))
        Py_XDECREF(bootstrap_call("reseed", Py_BuildValue("(i)", t == &at_mark.numpy)));
    PyErr_Clear();
}

void python_order_reseed(void) {
    reseed(&at_mark.own);
    reseed(&at_mark.numpy);
}

static bool lists_same(PyObject *now, PyObject *base) {
    Py_ssize_t count = PyList_GET_SIZE(now);

    if (count != PyList_GET_SIZE(base))
        return false;
    for (Py_ssize_t i = 0; i < count; i++)
        if (PyList_GET_ITEM(now, i) != PyList_GET_ITEM(base, i))
            return false;
    return true;
}

static bool row_same(PyObject *row) {
    PyObject *get = PyList_GET_ITEM(row, 0), *base = PyList_GET_ITEM(row, 1);

    if (PyList_GET_ITEM(row, 4) != Py_True)
        return true;
    if (PyList_CheckExact(get))
        return lists_same(get, base);
    PyObject *now = PyObject_CallNoArgs(get);
    bool same = now && (now == base || PyObject_RichCompareBool(now, base, Py_EQ) == 1);

    Py_XDECREF(now);
    PyErr_Clear();
    return same;
}

bool python_threads(void) {
    PyThreadState *first = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    return first && PyThreadState_Next(first);
}

bool python_order_knows(PyObject *names) {
    for (Py_ssize_t i = 0; at_mark.names && i < PyList_GET_SIZE(at_mark.names); i++)
        if (names_of(i, 0) == names)
            return true;
    return false;
}

bool python_order_touched(void) {
    return names_changed();
}

bool python_order_differs(void) {
    if (PyDict_GET_SIZE(at_mark.classes)) {
        Py_XDECREF(bootstrap_call("put_classes", PyTuple_New(0)));
        PyErr_Clear();
    }
    if (names_changed())
        return true;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(at_mark.rows); i++)
        if (!row_same(PyList_GET_ITEM(at_mark.rows, i)))
            return true;
    return python_patch_any() || python_threads() || twister_changed(&at_mark.own) || twister_changed(&at_mark.numpy);
}
