from dragoman.wire.json.string cimport Slice

cdef enum:
    USUAL_ARGUMENTS_MAX = 16

# A call of the usual members, borrowed from its text; data == NULL: it has no such member.
cdef struct UsualCall:
    Slice types    # an array of strings, brackets included
    int named      # how many they are
    Slice attachments  # an object of strings
    Slice fields   # an object
    Slice group    # these two without their quotes
    Slice version
    bint one_way, envelope, class_names
    int count      # of arguments
    Slice args[USUAL_ARGUMENTS_MAX]

cdef bint read_usual_call(const char* body, Py_ssize_t n, UsualCall* call) noexcept nogil
