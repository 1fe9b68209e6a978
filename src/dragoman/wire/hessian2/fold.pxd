from dragoman.wire.buffer cimport Buffer

cdef enum:
    ROLES = 4  # the most fields that a fold takes

# How objects of a class are written. The folds of one field come first, then those done here in C.
cdef enum:
    PLAIN
    AS_VALUE       # its one field, if that is text: enums, UUID, java.sql.*
    AS_PART        # one of its fields, whatever it is
    AS_NUMBER      # BigDecimal
    AS_DATE        # LocalDate
    AS_TIME        # LocalTime
    AS_DATETIME    # LocalDateTime
    LOST           # nothing: it is refused (java.util.CollSer)
    BY_NAME        # the rest: by java.bean_text.json_text

cdef tuple fold_of(bytes name)
cdef int fold_time(Buffer out, int kind, const char* text, const Py_ssize_t* spans) except -1
