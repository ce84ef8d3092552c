/* unchained.node.crypto._argon2: Argon2id with one lane, in every variant that this machine runs.
 *
 * A Kernel keeps the memory of its hashes: as many arenas as hashes ran at once. Its list of idle
 * arenas is touched only while the GIL is held. */
#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>

#include <string.h>

#include "arena.h"
#include "argon2.h"

enum { MIN_SALT = 8, MIN_LENGTH = 4, MAX_LENGTH = 1 << 20 };
static const long long MAX_MEM_KIB = 16LL << 20, MAX_ITERATIONS = UINT32_MAX;

typedef struct {
    PyObject_HEAD
    const struct variant *variant;
    struct arena *idle;
    unsigned long generation; /* of arenas; close begins another */
} Kernel;

static void free_idle(Kernel *self)
{
    while (self->idle != NULL) {
        struct arena *arena = self->idle;
        self->idle = arena->next;
        arena_free(arena);
    }
}

/* Take an idle arena of at least `size` bytes out of the list, or map one. */
static struct arena *take_arena(Kernel *self, size_t size)
{
    for (struct arena **at = &self->idle; *at != NULL; at = &(*at)->next)
        if ((*at)->size >= size) {
            struct arena *arena = *at;
            *at = arena->next;
            return arena;
        }
    if (self->idle != NULL) { /* too small; a larger one takes its place */
        struct arena *small = self->idle;
        self->idle = small->next;
        arena_free(small);
    }
    struct arena *arena = arena_new(size);
    if (arena == NULL && self->idle != NULL) {
        free_idle(self);
        arena = arena_new(size);
    }
    if (arena != NULL)
        arena->generation = self->generation;
    return arena;
}

static void give_arena(Kernel *self, struct arena *arena)
{
    if (arena->generation != self->generation) {
        arena_free(arena);
        return;
    }
    arena->next = self->idle;
    self->idle = arena;
}

/* The Python side says the same with any integer; here it keeps a mistake out of memory. */
static int in_range(const char *name, long long value, long long low, long long high)
{
    if (low <= value && value <= high)
        return 1;
    PyErr_Format(PyExc_ValueError, "argon2id %s is %lld, expected %lld to %lld", name, value, low,
                 high);
    return 0;
}

static PyObject *hash(Kernel *self, const struct argon2_input *input)
{
    PyObject *tag = PyBytes_FromStringAndSize(NULL, input->length);
    if (tag == NULL)
        return NULL;
    struct arena *arena = take_arena(self, argon2_memory(input->mem_kib));
    if (arena == NULL) {
        Py_DECREF(tag);
        return PyErr_Format(PyExc_MemoryError, "argon2id cannot have %lu KiB of memory",
                            (unsigned long)input->mem_kib);
    }
    uint8_t *out = (uint8_t *)PyBytes_AsString(tag);
    Py_BEGIN_ALLOW_THREADS
    argon2id(self->variant, input, arena->memory, out);
    Py_END_ALLOW_THREADS
    give_arena(self, arena);
    return tag;
}

PyDoc_STRVAR(kernel_argon2id_doc,
             "argon2id(password, salt, iterations, mem_kib, length)\n--\n\n"
             "Return the tag of `length` bytes, computed with the GIL released.");

static PyObject *kernel_argon2id(Kernel *self, PyObject *args)
{
    Py_buffer password, salt;
    long long iterations, mem_kib, length;
    PyObject *tag = NULL;
    if (!PyArg_ParseTuple(args, "y*y*LLL:argon2id", &password, &salt, &iterations, &mem_kib,
                          &length))
        return NULL;
    if (in_range("password length", password.len, 0, MAX_LENGTH) &&
        in_range("salt length", salt.len, MIN_SALT, MAX_LENGTH) &&
        in_range("iterations", iterations, 1, MAX_ITERATIONS) &&
        in_range("mem_kib", mem_kib, 2 * SLICES, MAX_MEM_KIB) &&
        in_range("length", length, MIN_LENGTH, MAX_LENGTH)) {
        struct argon2_input input = {
            password.buf,         salt.buf,          (size_t)password.len, (size_t)salt.len,
            (uint32_t)iterations, (uint32_t)mem_kib, (uint32_t)length,
        };
        tag = hash(self, &input);
    }
    PyBuffer_Release(&password);
    PyBuffer_Release(&salt);
    return tag;
}

PyDoc_STRVAR(kernel_close_doc,
             "close()\n--\n\n"
             "Free the arenas: those in use when their hash ends. A later hash maps one again.");

static PyObject *kernel_close(Kernel *self, PyObject *Py_UNUSED(ignored))
{
    free_idle(self);
    self->generation++;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(kernel_arenas_doc, "arenas()\n--\n\nReturn (address, bytes) of each idle arena.");

static PyObject *kernel_arenas(Kernel *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *list = PyList_New(0);
    for (const struct arena *arena = self->idle; list != NULL && arena != NULL;
         arena = arena->next) {
        PyObject *pair = Py_BuildValue("(Kn)", (unsigned long long)(uintptr_t)arena->memory,
                                       (Py_ssize_t)arena->size);
        if (pair == NULL || PyList_Append(list, pair) < 0)
            Py_CLEAR(list);
        Py_XDECREF(pair);
    }
    return list;
}

static PyObject *kernel_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"variant", NULL};
    const char *name;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s:Kernel", names, &name))
        return NULL;
    for (const struct variant *const *variant = variants; *variant != NULL; variant++)
        if (strcmp((*variant)->name, name) == 0 && (*variant)->runs_here()) {
            allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
            Kernel *self = (Kernel *)allocate(type, 0);
            if (self != NULL)
                self->variant = *variant;
            return (PyObject *)self;
        }
    return PyErr_Format(PyExc_ValueError, "variant '%s' does not run here", name);
}

static void kernel_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    free_idle((Kernel *)object);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyMethodDef kernel_methods[] = {
    {"argon2id", (PyCFunction)kernel_argon2id, METH_VARARGS, kernel_argon2id_doc},
    {"close", (PyCFunction)kernel_close, METH_NOARGS, kernel_close_doc},
    {"arenas", (PyCFunction)kernel_arenas, METH_NOARGS, kernel_arenas_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot kernel_slots[] = {
    {Py_tp_doc, "Kernel(variant)\n--\n\nArgon2id v0x13 with one lane, and the memory it works in."},
    {Py_tp_new, kernel_new},
    {Py_tp_dealloc, kernel_dealloc},
    {Py_tp_methods, kernel_methods},
    {0, NULL},
};

static PyType_Spec kernel_spec = {
    .name = "unchained.node.crypto._argon2.Kernel",
    .basicsize = sizeof(Kernel),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = kernel_slots,
};

PyDoc_STRVAR(module_variants_doc,
             "variants()\n--\n\nReturn the names of the variants that run here, fastest first.");

static PyObject *module_variants(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyObject *list = PyList_New(0);
    for (const struct variant *const *variant = variants; list != NULL && *variant != NULL;
         variant++) {
        if (!(*variant)->runs_here())
            continue;
        PyObject *name = PyUnicode_FromString((*variant)->name);
        if (name == NULL || PyList_Append(list, name) < 0)
            Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}

static PyMethodDef module_methods[] = {
    {"variants", module_variants, METH_NOARGS, module_variants_doc},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &kernel_spec, NULL);
    if (type == NULL)
        return -1;
    int result = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return result;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_argon2",
    .m_doc = "Argon2id v0x13 with one lane (RFC 9106).",
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__argon2(void)
{
    return PyModuleDef_Init(&module);
}
