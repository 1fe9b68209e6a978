from dragoman.wire.buffer cimport Buffer
from dragoman.wire.hessian2.pen cimport Hessian2Pen
from dragoman.wire.hessian2.plan cimport Plan
from dragoman.wire.hessian2.references cimport SeenTable


cdef class ClassWritten:
    cdef tuple fields
    cdef Py_ssize_t number


cdef class Hessian2Writer(Hessian2Pen):
    cdef SeenTable table
    cdef dict types              # name -> number
    cdef dict classes            # (name, *fields) -> ClassWritten
    cdef dict latest             # name -> the ClassWritten that came last
    cdef Py_ssize_t count  # references so far
    cdef int depth, depth_max
    cdef bint tree               # no container comes twice: nothing is remembered

    cdef int start(self, Buffer out, int depth_max) except -1

    cdef int list_begin(self, Py_ssize_t length, str java_class) except -1
    cdef int map_begin(self, str java_class) except -1
    cdef int map_end(self) except -1
    cdef int text_map(self, dict entries) except -1

    cdef int value(self, object value) except -1
    cdef int typed(self, object value, str descriptor) except -1

    cdef int enter(self) except -1
    cdef int leave(self) except -1
    cdef bint seen(self, object value) except -1
    cdef int forget(self) except -1
    cdef Py_ssize_t class_number(self, str java_class, dict fields) except -1
    cdef int type_name(self, str name) except -1
    cdef int other(self, object value) except -1
    cdef int any_int(self, object value) except -1
    cdef int sequence(self, object values, str java_class, object element) except -1
    cdef int entries(self, dict values, str java_class) except -1
    cdef int bean(self, dict fields, str java_class) except -1
    cdef int by_plan(self, object value, object plan) except -1
    cdef int no_fit(self, object value, object plan) except -1
    cdef int whole(self, object value, Plan plan) except -1
    cdef int real(self, object value, Plan plan) except -1
    cdef int many(self, object value, Plan plan) except -1
    cdef int byte_array(self, object value, Plan plan) except -1
    cdef int named(self, object value, Plan plan) except -1
