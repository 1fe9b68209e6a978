r"""fastjson's own additions to JSON made JSON: names that are no text, and references.

| fastjson | JSON |
| --- | --- |
| ``{1:"a",true:"b",null:"c"}`` | the name as text: ``{"1":"a","true":"b","null":"c"}`` |
| ``{{"x":1}:"a",[1]:"b"}`` | its JSON as text: ``{"{\"x\":1}":"a","[1]":"b"}`` |
| ``{"$ref":"$.a[0].b"}`` | what stands there, once more |

A reference is an object whose one member ``$ref`` is text: ``$`` is the whole value, ``@`` what the
reference stands in, ``..`` what that stands in, ``$.name[1].other`` a path, in which a backslash
stands before what could mean something else; the name of a member may be written ``[1]`` if it is a
number, ``.null`` is a name that is null or no scalar. Any other text is somebody's own and stays.

``wire.dubbo.fastjson`` and ``dubbo.upstream.decode_reply`` call this for text that ``json.text``
has let pass, where it is no JSON or may hold references. The invariants: what is written is well
formed, at most ``JSON_DEPTH_MAX`` deep and ``BYTES_MAX`` long, however often parts refer to each
other; what refers to itself, or to nothing (Java writes such paths), is a LimitError; a path costs
no more than its length and, once, the number of members of what it leads through.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcmp, memcpy

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.json.scan cimport LOWER, is_space
from dragoman.wire.json.string cimport (
    JSON_OK, Slice, json_problem, json_string_to_utf8, write_json_string,
)
from dragoman.wire.json.text cimport JSON_DEPTH_MAX, json_check_loose

import re

from dragoman.errors import LimitError, UsageError

cdef enum:
    CONTAINERS = 500_000
    BYTES = 16 * 1024 * 1024

CONTAINERS_MAX = CONTAINERS
BYTES_MAX = BYTES

# Of a path: an index, or a name with its backslashes.
_STEP = re.compile(rb"\[(\d{1,10})\]|\.((?:[^.\[\\]|\\.)*)", re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


cdef bint mentions_ref(const char* json, Py_ssize_t n) noexcept nogil:
    """Whether there may be references in a text: whether ``"$ref"`` is there."""
    cdef const char* at = json
    cdef const char* end = json + n
    while True:
        at = <const char*>memchr(at, c'$', end - at)
        if at == NULL or end - at < 5:
            return False
        if at > json and (at - 1)[0] == c'"' and memcmp(at, b'$ref"', 5) == 0:
            return True
        at += 1


cdef inline int past_string(const uint8_t* p, int i) noexcept nogil:
    """Past the string that begins at ``i``; the text has been checked."""
    i += 1
    while p[i] != c'"':
        i += 2 if p[i] == c'\\' else 1
    return i + 1


cdef inline int past_scalar(const uint8_t* p, int i, int n) noexcept nogil:
    """Past the number or word at ``i``."""
    while i < n and (
        c'0' <= p[i] <= c'9' or c'a' <= (p[i] | LOWER) <= c'z' or p[i] == c'+' or p[i] == c'-'
        or p[i] == c'.'
    ):
        i += 1
    return i


cdef inline int past_space(const uint8_t* p, int i, int n) noexcept nogil:
    while i < n and is_space(p[i]):
        i += 1
    return i


cdef class LooseJson:
    """One text: its lists and objects, and what of it has been written."""

    def __cinit__(self):
        self.nodes = Buffer()
        self.bytes_max = BYTES

    cdef int write(self, Buffer out, const char* json, Py_ssize_t n) except -1:
        """Append the JSON that ``json[:n]`` stands for, which ``json_check_loose`` let pass."""
        if n > 0x7FFFFFF0:
            raise LimitError(f"fastjson: a value of {n} bytes")
        self.text = <const uint8_t*>json
        self.n = <int>n
        self.count = 0
        self.nodes.clear()
        self.names = {}
        self.out = out
        self.read()
        if self.count == 0 or not self.node(0).loose:
            return out.append(json, n)
        self.put_text(out, 0, self.node(0).start)
        self.put(out, 0, 1)
        return self.put_text(out, self.node(0).end, self.n)

    cdef Node* node(self, int number) noexcept:
        return (<Node*>self.nodes.data) + number

    # ---- what there is

    cdef int add(
        self, int start, int parent, int name, int name_end, int index, bint key
    ) except -1:
        cdef Node* made
        cdef Node* holder
        if self.count == CONTAINERS:
            raise LimitError(f"fastjson: more than {CONTAINERS} lists and objects")
        made = <Node*>self.nodes.reserve(sizeof(Node))
        self.nodes.length += sizeof(Node)
        made.start = start
        made.end = NONE
        made.parent = parent
        made.sibling = made.child = made.last = made.ref = made.ref_end = made.made = NONE
        made.name = name
        made.name_end = name_end
        made.index = index
        made.height = 1
        made.key = key
        made.loose = made.open = False
        if parent != NONE:
            holder = self.node(parent)
            if holder.last == NONE:
                holder.child = self.count
            else:
                self.node(holder.last).sibling = self.count
            holder.last = self.count
        self.count += 1
        return 0

    cdef int read(self) except -1:
        """Find the lists and objects, and which of them are not as JSON has them."""
        cdef const uint8_t* p = self.text
        cdef int i = 0, n = self.n, now = NONE, name = NONE, name_end = NONE, end
        cdef int[JSON_DEPTH_MAX + 1] counts     # elements so far, by depth
        cdef int depth = 0
        cdef bint wants_name = False
        cdef Node* node
        counts[0] = 0
        while i < n:
            i = past_space(p, i, n)
            if i >= n:
                break
            if p[i] == c'{' or p[i] == c'[':
                self.add(i, now, name, name_end, counts[depth], wants_name)
                if wants_name:
                    self.node(now).loose = True
                now = self.count - 1
                depth += 1
                counts[depth] = 0
                wants_name = p[i] == c'{'
                name = NONE
                i += 1
            elif p[i] == c'}' or p[i] == c']':
                i += 1
                node = self.node(now)
                node.end = i
                if p[node.start] == c'{':
                    self.find_ref(now)
                    node = self.node(now)
                now = node.parent
                depth -= 1
                if now != NONE and node.loose:
                    self.node(now).loose = True
                wants_name = False
                if node.key:
                    # A name that is no scalar, for what follows the colon.
                    name, name_end = node.start, node.end
            elif p[i] == c',':
                i += 1
                counts[depth] += 1
                wants_name = now != NONE and p[self.node(now).start] == c'{'
                name = NONE
            elif p[i] == c':':
                i += 1
                wants_name = False
            else:
                end = past_string(p, i) if p[i] == c'"' else past_scalar(p, i, n)
                if wants_name:
                    name, name_end = i, end
                    if p[i] != c'"':
                        self.node(now).loose = True
                i = end
        return 0

    cdef int find_ref(self, int number) except -1:
        """Notice it if an object that has ended is a reference."""
        cdef const uint8_t* p = self.text
        cdef Node* node = self.node(number)
        cdef int i, end
        if node.child != NONE:
            return 0
        i = past_space(p, node.start + 1, node.end)
        if node.end - i < 10 or memcmp(p + i, b'"$ref"', 6) != 0:
            return 0
        i = past_space(p, i + 6, node.end)
        i = past_space(p, i + 1, node.end)
        if p[i] != c'"':
            return 0
        end = past_string(p, i)
        if past_space(p, end, node.end) != node.end - 1:
            return 0
        # What does not begin like a path is somebody's own text.
        if not (p[i + 1] == c'$' and (p[i + 2] == c'"' or p[i + 2] == c'.' or p[i + 2] == c'[')
                or end - i == 3 and p[i + 1] == c'@'
                or end - i == 4 and p[i + 1] == c'.' and p[i + 2] == c'.'):
            return 0
        node.ref = i
        node.ref_end = end
        node.loose = True
        return 0

    # ---- what is written

    cdef int put(self, Buffer out, int number, int depth) except -1:
        """Append a list or an object; returns how high it is."""
        cdef Node* node = self.node(number)
        cdef size_t length
        cdef int height
        if depth > JSON_DEPTH_MAX:
            raise LimitError(f"fastjson: references nest it deeper than {JSON_DEPTH_MAX}")
        if node.open:
            raise LimitError("fastjson: a value that contains itself, which JSON cannot say")
        if out is self.out and node.made != NONE:
            if depth + node.height - 1 > JSON_DEPTH_MAX:
                raise LimitError(f"fastjson: references nest it deeper than {JSON_DEPTH_MAX}")
            length = node.made_end - node.made
            if <Py_ssize_t>(out.length + length) > self.bytes_max:
                self.too_much()
            out.reserve(length)
            memcpy(out.data + out.length, out.data + node.made, length)
            out.length += length
            return node.height
        length = out.length
        node.open = True
        if node.ref != NONE:
            height = self.put(out, self.target(number), depth)
        else:
            height = self.put_members(out, number, depth)
        node = self.node(number)
        node.open = False
        node.height = height
        if out is self.out:
            node.made = <int>length
            node.made_end = <int>out.length
        if <Py_ssize_t>out.length > self.bytes_max:
            self.too_much()
        return height

    cdef int put_members(self, Buffer out, int number, int depth) except -1:
        cdef int i = self.node(number).start, child = self.node(number).child
        cdef int height = 0, inner
        cdef Buffer aside
        while child != NONE:
            self.put_text(out, i, self.node(child).start)
            if self.node(child).key:
                aside = Buffer()
                self.put(aside, child, depth + 1)
                if write_json_string(out, aside.data, aside.length):
                    raise LimitError("fastjson: a name that is no text")
            else:
                inner = self.put(out, child, depth + 1)
                if inner > height:
                    height = inner
            i = self.node(child).end
            child = self.node(child).sibling
        self.put_text(out, i, self.node(number).end)
        return height + 1

    cdef int put_text(self, Buffer out, int start, int end) except -1:
        """Append a piece between lists and objects, names in quotes."""
        cdef const uint8_t* p = self.text
        cdef int i = start, copied = start, colon
        while i < end:
            if p[i] == c'"':
                i = past_string(p, i)
            elif p[i] == c'-' or c'0' <= p[i] <= c'9' or c'a' <= p[i] <= c'z':
                start = i
                i = past_scalar(p, i, end)
                colon = past_space(p, i, self.n)
                if colon < self.n and p[colon] == c':':
                    out.append(p + copied, start - copied)
                    out.append(b'"', 1)
                    out.append(p + start, i - start)
                    out.append(b'"', 1)
                    copied = i
            else:
                i += 1
        return out.append(p + copied, end - copied)

    cdef object too_much(self):
        raise LimitError(f"fastjson: references make it more than {self.bytes_max} bytes")

    # ---- references

    cdef int target(self, int number) except? -2:
        """The node that a reference refers to."""
        cdef Node* node = self.node(number)
        cdef const uint8_t* p = self.text + node.ref
        cdef int found = 0, at = 1
        cdef bytes path
        if p[1] == c'@':
            found = node.parent
        elif p[1] == c'.':
            found = NONE if node.parent == NONE else self.node(node.parent).parent
        elif p[2] != c'"':
            path = self.decoded(node.ref, node.ref_end)
            while at < len(path):
                found_step = _STEP.match(path, at)
                if found_step is None:
                    self.lost(number)
                at = found_step.end()
                if found_step[1] is not None:
                    found = self.step(found, int(found_step[1]), True)
                else:
                    found = self.step(found, _ESCAPED.sub(rb"\1", found_step[2]), False)
                if found == NONE:
                    self.lost(number)
        if found == NONE:
            self.lost(number)
        return found

    cdef int step(self, int number, object name, bint index) except? -2:
        """The value in a list or an object under a name or an index."""
        cdef dict known = self.names.get(number)
        cdef Node* node
        cdef int child
        if known is None:
            known = self.names[number] = {}
            child = self.node(number).child
            while child != NONE:
                node = self.node(child)
                if node.key:
                    known.setdefault(b"null", child)
                elif node.name == NONE:
                    known[node.index] = child
                elif self.text[node.name] == c'"':
                    known[self.decoded(node.name, node.name_end)] = child
                elif self.text[node.name] == c'-' or c'0' <= self.text[node.name] <= c'9':
                    known[int_or_text(self.text[node.name:node.name_end])] = child
                elif self.text[node.name] != c'{' and self.text[node.name] != c'[':
                    known[self.text[node.name:node.name_end]] = child
                child = node.sibling
        found = known.get(name)
        if found is None:
            found = known.get(b"%d" % name if index else int_or_text(name))
        return NONE if found is None else found

    cdef bytes decoded(self, int start, int end):
        """A JSON string's text; what is half a pair stays as it is written."""
        cdef Buffer text = Buffer()
        cdef Py_ssize_t length = json_string_to_utf8(
            <const char*>self.text + start, end - start, text.reserve(end - start)
        )
        if length < 0:
            return self.text[start + 1:end - 1]
        return text.data[:length]

    cdef object lost(self, int number):
        cdef Node* node = self.node(number)
        path = self.decoded(node.ref, node.ref_end).decode("utf-8", "replace")
        raise LimitError(f"fastjson: a reference to {path!r:.200}, where there is nothing")


cdef object int_or_text(bytes name):
    """An index, if a name is a number that can be one."""
    return int(name) if name.isdigit() and len(name) <= 10 and str(int(name)).encode() == name \
        else name


cdef int write_strict_json(Buffer out, const char* json, Py_ssize_t n) except -1:
    """Append the JSON that a text stands for which ``json_check_loose`` let pass."""
    return (<LooseJson>LooseJson()).write(out, json, n)


def strict(bytes json not None, *, Py_ssize_t bytes_max=BYTES):
    """The JSON that fastjson's text stands for; see the module.

    UsageError when it is none, LimitError for references that cannot be followed.
    """
    cdef Slice value
    cdef Buffer out = Buffer()
    cdef LooseJson reader = LooseJson()
    cdef int code = json_check_loose(PyBytes_AS_STRING(json), PyBytes_GET_SIZE(json), &value)
    if code != JSON_OK:
        raise UsageError(json_problem(code).decode())
    reader.bytes_max = bytes_max
    reader.write(out, value.data, value.length)
    return out.take()
