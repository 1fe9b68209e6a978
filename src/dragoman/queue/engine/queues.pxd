from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.engine.core cimport Core

cdef extern from "stdint.h":
    const uint64_t EVERYTHING "UINT64_MAX"  # as an offset: no message is behind it

cdef uint64_t length_of(Core core, object queue) except? 0xFFFFFFFFFFFFFFFF
cdef uint64_t first_of(Core core, object queue) except? 0xFFFFFFFFFFFFFFFF
cdef tuple names_from(Core core, uint32_t start, uint32_t count)
cdef bytes name_by_id(Core core, uint32_t id)
cdef object lengths_by_id(Core core)
cdef uint32_t trim_queue(Core core, object queue, uint64_t before) except? 0
cdef dict counters(Core core)
