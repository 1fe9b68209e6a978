# The objects that a stream has written, by address, with the numbers that references give them.
#
# An open hash table of a power of two of slots, at most half full. It keeps the objects alive: one
# that goes would leave its address to another. Zeros are an empty table; ``hessian2.writer`` has
# one and gives it back with ``free_table``.

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

cdef enum:
    SLOTS_LEAST = 16
    SLOTS_KEPT = 4096   # a larger table goes back to the allocator with its stream

cdef struct Seen:
    PyObject* object
    Py_ssize_t number

cdef struct SeenTable:
    Seen* slots
    size_t mask, used


cdef inline size_t slot_of(const void* object, size_t mask) noexcept nogil:
    """Where an address begins to look."""
    return ((<uint64_t><size_t>object >> 4) * <uint64_t>0x9E3779B97F4A7C15 >> 32) & mask


cdef inline int grow_table(SeenTable* table) except -1:
    """Double the table."""
    cdef size_t mask = table.mask * 2 + 1 if table.slots != NULL else SLOTS_LEAST - 1
    cdef size_t i, at
    cdef Seen* slots = <Seen*>calloc(mask + 1, sizeof(Seen))
    if slots == NULL:
        raise MemoryError(f"no memory for a table of {mask + 1} references")
    if table.slots != NULL:
        for i in range(table.mask + 1):
            if table.slots[i].object != NULL:
                at = slot_of(table.slots[i].object, mask)
                while slots[at].object != NULL:
                    at = (at + 1) & mask
                slots[at] = table.slots[i]
        free(table.slots)
    table.slots = slots
    table.mask = mask
    return 0


cdef inline Py_ssize_t number_of(
    SeenTable* table, object value, Py_ssize_t number
) except -2:
    """The number of an object that was there before; else -1, and it is kept as ``number``."""
    cdef size_t at
    cdef Seen* slot
    if (table.used + 1) * 2 > table.mask:
        grow_table(table)
    at = slot_of(<void*>value, table.mask)
    while True:
        slot = table.slots + at
        if slot.object == NULL:
            Py_INCREF(value)
            slot.object = <PyObject*>value
            slot.number = number
            table.used += 1
            return -1
        if slot.object == <PyObject*>value:
            return slot.number
        at = (at + 1) & table.mask


cdef inline void empty_table(SeenTable* table) noexcept:
    """Let all objects go."""
    cdef size_t i
    cdef PyObject* kept
    if table.used:
        table.used = 0
        for i in range(table.mask + 1):
            kept = table.slots[i].object
            if kept != NULL:
                table.slots[i].object = NULL
                Py_DECREF(<object>kept)
    if table.mask >= SLOTS_KEPT:
        free(table.slots)
        table.slots = NULL
        table.mask = 0


cdef inline void free_table(SeenTable* table) noexcept:
    """Let all objects and the memory go."""
    empty_table(table)
    free(table.slots)
    table.slots = NULL
