from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE

from dragoman.queue.memory.layout cimport NAME_MAX

cdef int name_slowly(object queue, const char** name, Py_ssize_t* n) except -1
cdef list listed(object values, str expected)
cdef bytes message_of(object message)


cdef inline int name_of(object queue, const char** name, Py_ssize_t* n) except -1:
    # The bytes of a queue's name, which ``queue`` keeps.
    if PyBytes_CheckExact(queue):
        name[0] = PyBytes_AS_STRING(queue)
        n[0] = PyBytes_GET_SIZE(queue)
        if 0 < n[0] <= NAME_MAX:
            return 0
    return name_slowly(queue, name, n)
