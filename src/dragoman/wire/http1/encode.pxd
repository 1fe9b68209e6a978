from dragoman.wire.buffer cimport Buffer


cdef enum:  # what the Connection field says
    CONNECTION_DEFAULT = 0     # nothing: HTTP/1.1 keeps the connection
    CONNECTION_CLOSE = 1
    CONNECTION_KEEP_ALIVE = 2  # for HTTP/1.0 peers that asked for it


cdef int write_response(
    Buffer out,
    int status,
    const char* content_type,
    Py_ssize_t content_type_length,
    const char* fields,
    Py_ssize_t fields_length,
    const char* body,
    Py_ssize_t body_length,
    int connection,
) except -1

cdef int write_request(
    Buffer out,
    const char* head,
    Py_ssize_t head_length,
    const char* body,
    Py_ssize_t body_length,
) except -1

cdef bytes request_head(
    str method, str target, str host, str content_type, tuple fields
)
