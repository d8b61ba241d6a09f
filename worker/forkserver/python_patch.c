/* Attributes that a call sets on modules which are not its own (monkey patches): every store to a module goes through
 * the slot of its type, which is ours. What a package sets on itself is its state, what an import sets lasts as long as
 * the modules do; both stay. */
#include "worker/forkserver/python_int.h"

enum { PATCHES_MAX = 64 };

static struct {
    bool on;
    size_t count; /* PATCHES_MAX: there may have been more */
    struct {
        PyObject *names, *name, *before; /* of the module's dictionary; before: NULL where there was none */
    } at[PATCHES_MAX];
} patches;

static bool same_package(PyObject *a, PyObject *b) {
    const char *one = a && PyUnicode_Check(a) ? PyUnicode_AsUTF8(a) : NULL;
    const char *other = b && PyUnicode_Check(b) ? PyUnicode_AsUTF8(b) : NULL;

    if (!one || !other)
        return false;
    size_t size = strcspn(one, ".");
    return size == strcspn(other, ".") && memcmp(one, other, size) == 0;
}

static bool is_import(PyObject *file) {
    return PyUnicode_Check(file) && PyUnicode_CompareWithASCIIString(file, "<frozen importlib._bootstrap>") == 0;
}

/* Whether the code that runs is of that module's package, or an import is under way. */
static bool is_its_own(PyObject *names) {
    PyFrameObject *frame = PyEval_GetFrame();
    PyObject *globals = PyEval_GetGlobals();

    if (globals && same_package(PyDict_GetItemString(globals, "__name__"), PyDict_GetItemString(names, "__name__")))
        return true;
    Py_XINCREF(frame);
    while (frame) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        bool found = is_import(code->co_filename);
        PyFrameObject *back = found ? NULL : PyFrame_GetBack(frame);
        Py_DECREF(code);
        Py_DECREF(frame);
        if (found)
            return true;
        frame = back;
    }
    return false;
}

/* A module that finds some of its names when they are asked for keeps them. */
static bool is_lazy(PyObject *module, PyObject *names) {
    return !PyModule_CheckExact(module) || PyDict_GetItemString(names, "__getattr__");
}

static void note(PyObject *module, PyObject *name, PyObject *value) {
    PyObject *names = PyModule_GetDict(module), *before = PyDict_GetItemWithError(names, name);

    if (before == value || (!before && (PyModule_Check(value) || is_lazy(module, names))) ||
        python_order_knows(names) || is_its_own(names))
        return;
    for (size_t i = 0; i < patches.count; i++)
        if (patches.at[i].names == names && PyUnicode_Compare(patches.at[i].name, name) == 0)
            return;
    if (patches.count == PATCHES_MAX)
        return;
    patches.at[patches.count].names = Py_NewRef(names);
    patches.at[patches.count].name = Py_NewRef(name);
    patches.at[patches.count++].before = Py_XNewRef(before);
}

static int set_attribute(PyObject *module, PyObject *name, PyObject *value) {
    if (patches.on && PyModule_Check(module) && PyUnicode_Check(name)) {
        PyObject *type, *error, *trace;
        PyErr_Fetch(&type, &error, &trace);
        note(module, name, value);
        PyErr_Restore(type, error, trace);
    }
    return PyObject_GenericSetAttr(module, name, value);
}

static void set_slot(setattrofunc slot) {
    static const char *const wrappers[] = {"__setattr__", "__delattr__"};
#if PY_VERSION_HEX >= 0x030c0000 /* the type itself has none: each interpreter has its own */
    PyObject *names = PyType_GetDict(&PyModule_Type);
#else
    PyObject *names = Py_NewRef(PyModule_Type.tp_dict);
#endif

    for (size_t i = 0; i < sizeof(wrappers) / sizeof(wrappers[0]); i++) {
        PyObject *wrapper = PyDict_GetItemString(names, wrappers[i]);
        if (wrapper && Py_IS_TYPE(wrapper, &PyWrapperDescr_Type)) /* it passes on to the slot that it was made for */
            ((PyWrapperDescrObject *)wrapper)->d_wrapped = (void *)slot;
    }
    Py_DECREF(names);
    PyModule_Type.tp_setattro = slot;
    PyType_Modified(&PyModule_Type);
}

void python_patch_watch(void) {
    set_slot(set_attribute);
}

void python_patch_unwatch(void) {
    set_slot(PyObject_GenericSetAttr);
}

void python_patch_begin(void) {
    patches.on = false; /* what goes now may set something in its turn */
    while (patches.count) {
        patches.count--;
        Py_DECREF(patches.at[patches.count].names);
        Py_DECREF(patches.at[patches.count].name);
        Py_XDECREF(patches.at[patches.count].before);
    }
    patches.on = true;
}

bool python_patch_any(void) {
    return patches.count;
}

bool python_patch_left(void) {
    bool left = patches.count == PATCHES_MAX;

    for (size_t i = 0; i < patches.count && !left; i++)
        left = PyDict_GetItemWithError(patches.at[i].names, patches.at[i].name) != patches.at[i].before;
    PyErr_Clear();
    python_patch_begin();
    patches.on = false;
    return left;
}
