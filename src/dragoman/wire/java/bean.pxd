cdef class Bean(dict):
    cdef public str java_class
    cdef public object constant

cdef Bean new_bean(str java_class)
cdef bint is_plain_key(object value)
cdef object frozen_key(object value)
