from libc.stdint cimport uint8_t

from dragoman.wire.buffer cimport Buffer

cdef enum:
    NONE = -1      # no such node, no such place

# A list or an object of the text.
cdef struct Node:
    int start, end          # in the text, brackets included
    int parent, sibling     # nodes: that it stands in, the next one there
    int child, last         # the first and the last that stand in it
    int name, name_end      # in the text, if it is a member
    int index               # if it is an element of a list
    int ref, ref_end        # the path, in quotes, if it is a reference
    int made, made_end      # where it has been written, if it has been
    int height
    bint key                # it is a member's name
    bint loose              # it is no JSON as it is, or holds references
    bint open               # it is being written


cdef class LooseJson:
    cdef const uint8_t* text
    cdef int n
    cdef Buffer nodes
    cdef int count
    cdef Buffer out
    cdef dict names         # node -> (its name or index -> a node in it), where it was asked for
    cdef Py_ssize_t bytes_max

    cdef int write(self, Buffer out, const char* json, Py_ssize_t n) except -1
    cdef int read(self) except -1
    cdef Node* node(self, int number) noexcept
    cdef int add(self, int start, int parent, int name, int name_end, int index, bint key) except -1
    cdef int find_ref(self, int number) except -1
    cdef int put(self, Buffer out, int number, int depth) except -1
    cdef int put_members(self, Buffer out, int number, int depth) except -1
    cdef int put_text(self, Buffer out, int start, int end) except -1
    cdef int target(self, int number) except? -2
    cdef int step(self, int number, object name, bint index) except? -2
    cdef bytes decoded(self, int start, int end)
    cdef object too_much(self)
    cdef object lost(self, int number)


cdef bint mentions_ref(const char* json, Py_ssize_t n) noexcept nogil
cdef int write_strict_json(Buffer out, const char* json, Py_ssize_t n) except -1
