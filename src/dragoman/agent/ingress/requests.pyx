"""The meaning of an HTTP request: a form, a JSON call, a query or a preflight.

The contracts are those of ``agent.contract``. The header fields and the body are read where the
decoder has them, in place.
"""

from cpython.buffer cimport PyBUF_READ
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport int64_t
from libc.string cimport memchr, memcpy

from dragoman.agent.ingress.call cimport HttpCall, whole_bytes
from dragoman.agent.ingress.connection cimport HttpConnection
from dragoman.agent.ingress.large cimport PIECE_BYTES
from dragoman.agent.ingress.shared cimport Ingress
from dragoman.wire.http1.form cimport FORM_REPEATED, FormField, find_field
from dragoman.wire.http1.request cimport RequestDecoder
from dragoman.wire.http1.tables cimport (
    CT_FORM, CT_JSON, CT_JSON_OTHERWISE, CT_NONE, M_GET, M_HEAD, M_OPTIONS, M_POST,
)
from dragoman.wire.json.string cimport Slice
from dragoman.wire.json.usual_call cimport UsualCall, read_usual_call

from dragoman.agent import contract
from dragoman.errors import DragomanError, UsageError

cdef bytes FORM_METHOD = b"form"
cdef bytes JSON_METHOD = b"json"
# Header fields that a request may carry beside its body, in the order of the decoder's slots. All
# are refused when they are repeated, those too whose value says nothing here.
WANTED = (
    "x-dragoman-timeout-ms", "x-dragoman-group", "x-dragoman-version", "origin", "sec-fetch-site",
    "access-control-request-method",
)
cdef enum:
    W_TIMEOUT = 0
    W_GROUP = 1
    W_VERSION = 2
    W_ORIGIN = 3
    W_FETCH_SITE = 4


cdef class IngressConnection(HttpConnection):
    """One HTTP connection whose requests become calls: an ``asyncio.Protocol``."""

    def __init__(self, Ingress ingress not None):
        self.ingress = ingress
        self.decoder = RequestDecoder(
            head_bytes_max=ingress.limits.head_bytes_max,
            target_bytes_max=ingress.limits.target_bytes_max,
            fields_max=ingress.limits.fields_max,
            body_bytes_max=ingress.limits.body_bytes_max,
            wanted=WANTED,
        )
        self.decoder.memory = ingress.budget

    cdef void begin(self, int64_t now):
        """A complete request: make it a call to its service."""
        cdef RequestDecoder request = self.decoder
        cdef Ingress ingress = self.ingress
        cdef bint large = False
        cdef HttpCall call = HttpCall.__new__(HttpCall)
        ingress.requests += 1
        call.keep_alive = request.keep_alive
        call.http_1_0 = request.http_1_0
        call.started_us = now
        call.due_us = now + ingress.timeout_us
        try:
            if not self._admit(call):
                return
            if request.method == M_GET:
                self._begin_query(call)
            elif request.path_length == 1 and request.content_kind != CT_JSON:
                self._begin_form(call)
            else:
                large = self._begin_json(call)
        except contract.HttpRefusal as refusal:
            self.refuse(
                refusal.status, refusal.name, refusal.why, not call.keep_alive,
                request.method == M_HEAD, call.origin,
            )
            return
        except DragomanError as error:
            self.refuse(
                contract.status_of(error.code), contract.name_of(error.code), str(error),
                not call.keep_alive, False, call.origin,
            )
            return
        call.connection = self
        ingress.in_progress += 1
        call.counts_in = ingress.budget
        call.count(call.body_length)
        self.expect(call)
        if not large:
            call.service.submit(call)

    cdef bint _admit(self, HttpCall call) except -1:
        """Check all but the call itself; False for a preflight, which is answered."""
        cdef RequestDecoder request = self.decoder
        cdef Ingress ingress = self.ingress
        if ingress.hosts_restricted:
            ingress.access.check_host(request.host[:request.host_length])
        if request.wanted_value[W_ORIGIN] != NULL or request.wanted_value[W_FETCH_SITE] != NULL:
            call.origin = ingress.access.check_origin(
                self._wanted(W_ORIGIN), self._wanted(W_FETCH_SITE)
            )
        if request.method != M_POST and not (request.method == M_GET and ingress.access.get):
            if request.method == M_OPTIONS and call.origin is not None:
                self._answer_preflight(call)
                return False
            raise contract.HttpRefusal(405, "method-not-allowed", ingress.access.methods_expected)
        if request.content_encoded:
            raise contract.HttpRefusal(
                415, "unsupported-media-type",
                "Content-Encoding: a body without one was expected",
            )
        if ingress.sheds():
            raise contract.HttpRefusal(503, "overload", "this agent is short of memory")
        if request.wanted_value[W_TIMEOUT] != NULL:
            call.due_us = call.started_us + 1000 * contract.timeout_ms(self._wanted(W_TIMEOUT))
        return True

    cdef bint _begin_form(self, HttpCall call) except -1:
        """The contest's contract: the form travels as it came; its fields choose the service."""
        cdef RequestDecoder request = self.decoder
        cdef FormField field
        cdef int found
        cdef bytes key
        cdef object service
        if request.content_kind != CT_FORM and request.content_kind != CT_NONE:
            raise contract.wrong_type(
                request.content_kind == CT_JSON_OTHERWISE,
                "application/x-www-form-urlencoded or application/json",
            )
        found = find_field(request.body, request.body_length, b"interface", 9, &field)
        if found <= 0:
            raise UsageError(
                "the form field interface is "
                + ("repeated" if found == FORM_REPEATED else "missing")
            )
        key = PyBytes_FromStringAndSize(field.value, field.value_length)
        if request.wanted_value[W_GROUP] != NULL or request.wanted_value[W_VERSION] != NULL \
                or field.value_encoded:
            service = None
        else:
            service = self.ingress.services.get(key)
        if service is None:
            service = self.ingress.directory.find(*contract.form_service(
                key, self._wanted(W_GROUP), self._wanted(W_VERSION)
            ))
        call.service = service
        call.method = FORM_METHOD
        call.body = request.body
        call.body_length = request.body_length
        call.body_owner = request.owner
        return True

    cdef bint _begin_json(self, HttpCall call) except -1:
        """``POST /{interface}/{method}`` with a JSON object of types and args. True if the call is
        large, and is begun when it has been looked through."""
        cdef RequestDecoder request = self.decoder
        cdef bytes path
        if request.content_kind != CT_JSON:
            # Without it any page in a browser could send such a request, unasked.
            raise contract.wrong_type(
                request.content_kind == CT_JSON_OTHERWISE, "application/json"
            )
        path = request.path[:request.path_length]
        if request.body_length > PIECE_BYTES:
            call.body_owner = whole_bytes(request.body, request.body_length, request.owner)
            call.body_length = request.body_length
            self.ingress.large.add(call, path, self._wanted(W_GROUP), self._wanted(W_VERSION))
            return True
        if self._begin_usual(call, path):
            return False
        self._begin_call(call, contract.json_call(
            path, self._wanted(W_GROUP), self._wanted(W_VERSION),
            PyMemoryView_FromMemory(<char*>request.body, request.body_length, PyBUF_READ)
            if request.body_length else b"",
            self.ingress.published,
        ))
        return False

    cdef bint _begin_usual(self, HttpCall call, bytes path) except -1:
        """Begin what ``contract.json_call`` would begin, without making objects of it. False for
        what is not usual, among which is all that is refused for its body."""
        cdef RequestDecoder request = self.decoder
        cdef Ingress ingress = self.ingress
        cdef UsualCall usual
        cdef bytes group, version, names, body, payload
        if not read_usual_call(request.body, request.body_length, &usual):
            return False
        if usual.fields.data != NULL or (usual.types.data != NULL and usual.named != usual.count):
            return False
        group = self._wanted(W_GROUP) or text_of(&usual.group)
        version = self._wanted(W_VERSION) or text_of(&usual.version)
        asked = contract.asked_for(path, group, version)
        known = None
        if ingress.published is not None and may_need_types(&usual):
            known = ingress.published(*asked[:4], usual.count)
        service = ingress.services.get(asked.key)
        if service is None:
            service = ingress.directory.find(asked.interface, asked.group, asked.version)
        names = asked.names
        if known is not None:
            body = known.added_to(
                request.body[:request.body_length], typed=usual.types.data != NULL
            )
            payload = names + body
        else:
            payload = PyBytes_FromStringAndSize(NULL, len(names) + request.body_length)
            memcpy(PyBytes_AS_STRING(payload), PyBytes_AS_STRING(names), len(names))
            memcpy(
                PyBytes_AS_STRING(payload) + len(names), request.body, request.body_length
            )
        call.service = service
        call.method = JSON_METHOD
        call.json = True
        call.accepted = usual.one_way
        call.body_owner = payload
        call.body = PyBytes_AS_STRING(payload)
        call.body_length = len(payload)
        return True

    cdef bint _begin_query(self, HttpCall call) except -1:
        """``GET /{interface}/{method}`` with the arguments in the query."""
        cdef RequestDecoder request = self.decoder
        if request.body_length:
            raise UsageError("GET: a query, and no body, was expected")
        self._begin_call(call, contract.query_call(
            request.path[:request.path_length], self._wanted(W_GROUP), self._wanted(W_VERSION),
            request.query[:request.query_length] if request.query != NULL else b"",
            self.ingress.published,
        ))
        return True

    cdef int _begin_call(self, HttpCall call, tuple described, bytes joined=None) except -1:
        """``joined``: the payload, if its parts have been joined."""
        interface, group, version, parts, oneway = described
        call.service = self.ingress.directory.find(interface, group, version)
        call.method = JSON_METHOD
        call.json = True
        call.accepted = oneway
        call.body_owner = b"".join(parts) if joined is None else joined
        call.body = PyBytes_AS_STRING(call.body_owner)
        call.body_length = len(call.body_owner)
        return 0

    cdef int begin_large(self, HttpCall call, tuple described, bytes payload) except -1:
        self._begin_call(call, described, payload)
        call.count(call.body_length)
        call.service.submit(call)
        return 0

    def _answer_preflight(self, HttpCall call):
        """A page of an allowed origin asks whether it may call (Fetch, CORS-preflight)."""
        self.expect(call)
        self.answered(call, self.ingress.access.preflight_response(
            call.origin, self.ingress.responses.date(call.started_us), call.connection_says()
        ))

    def _wanted(self, int i):
        if self.decoder.wanted_value[i] == NULL:
            return b""
        return self.decoder.wanted_value[i][:self.decoder.wanted_length[i]]


cdef inline bytes text_of(const Slice* text):
    return b"" if text.data == NULL else text.data[:text.length]


cdef bint may_need_types(const UsualCall* call) noexcept nogil:
    """Whether what providers publish may say more of the arguments than the call does: it has no
    types, or there are objects."""
    cdef int i
    if call.types.data == NULL:
        return call.count > 0
    for i in range(call.count):
        if memchr(call.args[i].data, c'{', call.args[i].length) != NULL:
            return True
    return False
