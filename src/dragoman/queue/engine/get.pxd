from libc.stdint cimport int64_t, uint64_t

from dragoman.queue.engine.put cimport Item, Puts
from dragoman.queue.read.reader cimport Piece, Window


cdef class Context:
    cdef Window w


cdef class Gets(Puts):
    cdef Context _context(self)
    cdef int _drain(self, Context c) except -1
    cdef bint _fill(self, Context c, Item* items, uint64_t* left, Py_ssize_t n,
        Py_ssize_t* at) except -1
    cdef int64_t _build(self, Window* w, list results, list wanted) except -1
    cdef int _raise(self, Window* w, Piece* p, object queue) except -1
