from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.engine.core cimport Core

cdef object put_message(Core core, object queue, object message)
cdef object put_messages(Core core, object queues, object messages)


cdef struct Item:
    # One put of put_many.
    const char* name
    const char* message
    uint32_t name_length
    uint32_t message_length
    uint32_t hash
    uint32_t id
    uint64_t offset


cdef struct Batch:
    # The puts of put_many so far.
    Item* items
    PyObject** refs  # queue and message of each: others may change the lists without the GIL
    Py_ssize_t count
