# HTTP/1.1 in one place: the decoders, their constants and the encoders (each in a module of its
# own).

from dragoman.wire.http1.encode cimport (
    CONNECTION_CLOSE,
    CONNECTION_DEFAULT,
    CONNECTION_KEEP_ALIVE,
    write_request,
    write_response,
)
from dragoman.wire.http1.request cimport RequestDecoder
from dragoman.wire.http1.response cimport ResponseDecoder
from dragoman.wire.http1.tables cimport (
    CT_FORM,
    CT_JSON,
    CT_JSON_OTHERWISE,
    CT_NONE,
    CT_OTHER,
    EV_CONTINUE,
    EV_ERROR,
    EV_NEED_MORE,
    EV_REQUEST,
    EV_RESPONSE,
    M_DELETE,
    M_GET,
    M_HEAD,
    M_OPTIONS,
    M_OTHER,
    M_PATCH,
    M_POST,
    M_PUT,
    format_uint,
)
