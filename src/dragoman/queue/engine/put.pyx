"""Putting: messages into the tails of their queues, and into the journal's next frame.

For ``engine.Engine``. A put takes the store's lock for a few hundred nanoseconds and never waits
for the disk while it holds it; under ``always`` it waits afterwards for the sync that covers it,
with all others that do. ``put_many`` looks up many queues at a time, so that what the memory of
each needs comes while that of the others does.

Invariant: offsets are given in the order in which messages join their tails, and an entry of the
journal joins the frame under the same hold of the lock.
"""

from dragoman.errors import UsageError

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.list cimport (
    PyList_GET_ITEM, PyList_GET_SIZE, PyList_New, PyList_SET_ITEM,
)
from cpython.ref cimport PyObject, Py_DECREF, Py_INCREF
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from dragoman.queue.engine.arguments cimport listed, message_of, name_of
from dragoman.queue.engine.core cimport OPEN, Core, Use, enter, leave
from dragoman.queue.write.journal cimport frame_reserve, journal_put, journal_wait
from dragoman.queue.write.log cimport log_adapt
from dragoman.queue.format.meta cimport meta_queue
from dragoman.queue.memory.errors cimport DONE, NO_MEMORY, WAIT
from dragoman.queue.memory.layout cimport MESSAGE_MAX, entry_word, hash_name
from dragoman.queue.memory.state cimport DURABILITY_ALWAYS, Queue, Store, Table, queue_named
from dragoman.queue.memory.table cimport table_add, table_find
from dragoman.queue.memory.tail cimport tail_put
from dragoman.queue.memory.threads cimport (
    SPIN, flag, prefetch, pthread_cond_signal, pthread_cond_wait, pthread_mutex_lock,
    pthread_mutex_unlock, relax, spin_lock,
)

cdef enum:
    # Beyond what tail_put returns.
    FAILED = 10

# How many puts put_many looks up at a time, so that memory has time to come.
cdef Py_ssize_t AHEAD = 32
# After so many puts elsewhere the next queue is not expected any more.
cdef uint32_t RUN = 16


cdef inline void ahead(Table* t, uint32_t id) noexcept nogil:
    cdef Queue* q = &t.queues[id + 4]
    cdef const char* at = t.chunks[q.cur].data + q.used
    prefetch(&t.queues[id + 10])
    prefetch(&t.slots[q.hash & t.mask])
    if q.cur:
        prefetch(at)
        prefetch(at + 60)


cdef inline uint32_t guessed(Table* t, const char* name, uint32_t n) noexcept nogil:
    # Is it the queue made after one of the last two that were put to? 0: not known.
    if t.run:
        if queue_named(&t.queues[t.last + 1], name, n):
            return t.last + 1
        if queue_named(&t.queues[t.last_but_one + 1], name, n):
            return t.last_but_one + 1
        t.run -= 1
    return 0


cdef inline int put_known(
    Store* s, uint32_t id, const char* message, uint32_t m, uint64_t* offset
) noexcept nogil:
    # Under the lock, to a queue that there is. DONE, NO_MEMORY, FAILED, or WAIT: for ``space``.
    cdef Table* t = &s.table
    cdef uint64_t pending
    cdef int result
    if s.poison or s.closing:
        return FAILED
    if s.durability:
        if s.journal_error:
            # Nothing more is promised until the journal has taken what it has.
            return FAILED
        if s.frame.length > s.frame_most or s.journal_full:
            return FAILED if s.journal_full and s.log_error else WAIT
        if frame_reserve(&s.frame, 24 + m) != DONE:
            return NO_MEMORY
    pending = t.ring_tail
    result = tail_put(t, id, message, m)
    if result == DONE:
        offset[0] = t.queues[id].next - 1
        t.messages += 1
        t.message_bytes += m
        if s.durability:
            journal_put(s, id, offset[0], message, m)
    elif result == WAIT and s.log_error:
        return FAILED
    if pending != t.ring_tail or result == WAIT:
        pending = t.ring_tail - t.ring_head
        if pending % 64 == 32 or t.ring_bytes > 4194304 or result == WAIT:
            pthread_cond_signal(&s.work)
    return result


cdef int put_locked(
    Store* s, const char* name, uint32_t n, const char* message, uint32_t m, uint64_t* offset
) noexcept nogil:
    # Under the lock, to a queue that may be new. As put_known.
    cdef Table* t = &s.table
    cdef uint32_t hash
    cdef uint32_t id = guessed(t, name, n)
    if id == 0:
        hash = <uint32_t>hash_name(name, n, t.seed)
        id = table_find(t, name, n, hash)
        if id == 0:
            if s.poison or s.closing:
                return FAILED
            if meta_queue(s, t.ids, name, n) != DONE:
                return NO_MEMORY
            id = table_add(t, 0, name, n, hash)
            if id == 0:
                s.meta.length -= 13 + n
                return NO_MEMORY
            if t.alive % 256 == 0:
                log_adapt(s)
    # Whoever writes to one queue after the other, in the order in which they were made, finds the
    # next ones in the processor's cache.
    if id - t.last == 1:
        ahead(t, id)
        t.last = id
        t.run = RUN
    elif id - t.last_but_one == 1:
        ahead(t, id)
        t.last_but_one = id
        t.run = RUN
    else:
        t.last_but_one = t.last
        t.last = id
    return put_known(s, id, message, m, offset)


cdef void wait_for_room(Store* s) noexcept nogil:
    # Under the lock and without the GIL: until it is worth trying again.
    if s.durability and (s.frame.length > s.frame_most or s.journal_full):
        pthread_cond_signal(&s.journal_work)
        pthread_cond_signal(&s.upkeep)
        pthread_cond_wait(&s.durable, &s.lock)
    else:
        pthread_cond_wait(&s.space, &s.lock)


cdef int put_waiting(
    Store* s, const char* name, uint32_t n, const char* message, uint32_t m, uint64_t* offset
) noexcept nogil:
    # Under the lock and without the GIL: as long as it takes.
    cdef int result
    while True:
        result = put_locked(s, name, n, message, m, offset)
        if result != WAIT:
            return result
        wait_for_room(s)


cdef inline void lock_patiently(Store* s) noexcept nogil:
    if not spin_lock(&s.lock, SPIN):
        pthread_mutex_lock(&s.lock)


cdef void find_group(Table* t, Item* items, Py_ssize_t n) noexcept nogil:
    # Ids of queues that there are, 0 for others; what each put will touch is on its way.
    cdef Py_ssize_t i
    cdef Item* item
    cdef Queue* q
    cdef uint64_t slot
    cdef uint32_t id = t.last + 1
    cdef Py_ssize_t known = 0
    # Queues often come in the order in which they were made.
    while known < n and queue_named(&t.queues[id], items[known].name, items[known].name_length):
        items[known].id = id
        known += 1
        id += 1
    for i in range(known, n):
        item = &items[i]
        item.hash = <uint32_t>hash_name(item.name, item.name_length, t.seed)
        prefetch(&t.slots[item.hash & t.mask])
    for i in range(known, n):
        slot = t.slots[items[i].hash & t.mask]
        if slot:
            prefetch(&t.queues[<uint32_t>slot])
    for i in range(known, n):
        item = &items[i]
        item.id = table_find(t, item.name, item.name_length, item.hash)
    for i in range(n):
        item = &items[i]
        prefetch(item.message)
        prefetch(&t.queues[item.id + n])
        if item.id == 0:
            continue
        q = &t.queues[item.id]
        if q.cur:
            prefetch(t.chunks[q.cur].data + q.used)
            prefetch(t.chunks[q.cur].data + q.used + 56)
        if q.bytes + item.message_length + 5 > t.limit and q.index != NULL:
            # A block is due.
            prefetch(q.index)
            prefetch(q.index + entry_word(q.entries))


cdef void put_items(Store* s, Item* items, Py_ssize_t n, int* result) noexcept nogil:
    # All of put_many, up to the first that fails. In groups, so that the memory that each of a
    # group needs comes while that of the others does.
    cdef Table* t = &s.table
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t k, group
    cdef Item* item
    result[0] = DONE
    pthread_mutex_lock(&s.lock)
    while i < n and result[0] == DONE:
        group = min(AHEAD, n - i)
        find_group(t, items + i, group)
        for k in range(group):
            item = &items[i + k]
            if item.id:
                t.last = item.id
                result[0] = put_known(
                    s, item.id, item.message, item.message_length, &item.offset
                )
            else:
                result[0] = put_locked(
                    s, item.name, item.name_length, item.message, item.message_length,
                    &item.offset
                )
            if result[0] != DONE:
                group = k
                break
        i += group
        if result[0] == WAIT:
            # Others had the lock: what is known of the queues may be so no more.
            wait_for_room(s)
            result[0] = DONE
        elif flag(&s.wanted):
            pthread_mutex_unlock(&s.lock)
            k = 0
            while k < SPIN and flag(&s.wanted):
                relax()
                k += 1
            lock_patiently(s)
    pthread_mutex_unlock(&s.lock)


cdef object put_message(Core core, object queue, object message):
    """``Engine.put``."""
    cdef Store* s = &core.s
    cdef const char* name
    cdef const char* data
    cdef Py_ssize_t n, m
    cdef uint64_t offset = 0
    cdef uint64_t frame
    cdef int result
    cdef Use use
    name_of(queue, &name, &n)
    if not PyBytes_CheckExact(message):
        message = message_of(message)
    data = PyBytes_AS_STRING(message)
    m = PyBytes_GET_SIZE(message)
    if m > MESSAGE_MAX:
        raise UsageError(f"a message has at most 16777216 bytes, not {m}")
    enter(core, &use, True)
    if not spin_lock(&s.lock, SPIN):
        with nogil:
            pthread_mutex_lock(&s.lock)
    result = put_locked(s, name, n, data, m, &offset)
    if result == WAIT:
        with nogil:
            wait_for_room(s)
            result = put_waiting(s, name, n, data, m, &offset)
    if result == DONE and s.durability == DURABILITY_ALWAYS:
        frame = s.frame_number
        with nogil:
            result = journal_wait(s, frame)
            pthread_mutex_unlock(&s.lock)
    else:
        pthread_mutex_unlock(&s.lock)
    leave(core, &use)
    if result != DONE:
        raise MemoryError("no memory for the message") if result == NO_MEMORY else (
            core.failure()
        )
    return offset


cdef object put_messages(Core core, object queues, object messages):
    """``Engine.put_many``."""
    cdef Store* s = &core.s
    cdef Batch batch
    cdef Py_ssize_t n, i
    cdef bint one = False
    cdef list first, second = None
    if core.state != OPEN or s.read_only:
        core.refuse()
    if messages is None:
        first = listed(queues, "put_many takes pairs of queue and message")
    else:
        second = listed(messages, "put_many takes a list of messages")
        one = isinstance(queues, (str, bytes))
        first = second if one else listed(queues, "put_many takes a queue or a list of them")
        if len(first) != len(second):
            raise UsageError(f"{len(first)} queues beside {len(second)} messages")
    n = PyList_GET_SIZE(first)
    if n == 0:
        return []
    batch.count = 0
    batch.items = <Item*>malloc(n * sizeof(Item))
    batch.refs = <PyObject**>malloc(2 * n * sizeof(PyObject*))
    try:
        if batch.items == NULL or batch.refs == NULL:
            raise MemoryError
        if second is None:
            add_pairs(&batch, first, n)
        elif one:
            add_to_one(&batch, queues, second, n)
        else:
            add_columns(&batch, first, second, n)
        put_batch(core, &batch)
        return offsets_of(&batch)
    finally:
        for i in range(2 * batch.count):
            Py_DECREF(<object>batch.refs[i])
        free(batch.refs)
        free(batch.items)


cdef inline int add_item(Batch* batch, Py_ssize_t i, object queue, object message) except -1:
    # Number ``i``, which follows those that are there.
    cdef Item* item = &batch.items[i]
    cdef const char* name
    cdef Py_ssize_t size
    name_of(queue, &name, &size)
    item.name = name
    item.name_length = <uint32_t>size
    if not PyBytes_CheckExact(message):
        message = message_of(message)
    size = PyBytes_GET_SIZE(message)
    if size > MESSAGE_MAX:
        raise UsageError(f"a message has at most 16777216 bytes, not {size}")
    item.message = PyBytes_AS_STRING(message)
    item.message_length = <uint32_t>size
    Py_INCREF(queue)
    batch.refs[2 * i] = <PyObject*>queue
    Py_INCREF(message)
    batch.refs[2 * i + 1] = <PyObject*>message
    batch.count = i + 1
    return 0


cdef inline int still_there(list values, Py_ssize_t i) except -1:
    # What a caller's object does when it is asked for its parts may shorten the list.
    if i >= PyList_GET_SIZE(values):
        raise UsageError("the list of messages changed while it was read")
    return 0


cdef int add_pairs(Batch* batch, list pairs, Py_ssize_t n) except -1:
    cdef Py_ssize_t i
    cdef object pair
    for i in range(n):
        still_there(pairs, i)
        pair = <object>PyList_GET_ITEM(pairs, i)
        if PyTuple_CheckExact(pair) and PyTuple_GET_SIZE(pair) == 2:
            add_item(
                batch, i, <object>PyTuple_GET_ITEM(pair, 0), <object>PyTuple_GET_ITEM(pair, 1)
            )
            continue
        try:
            queue, message = pair
        except (TypeError, ValueError):
            raise UsageError(
                f"put_many takes pairs of queue and message; number {i} is none"
            ) from None
        add_item(batch, i, queue, message)
    return 0


cdef int add_to_one(Batch* batch, object queue, list messages, Py_ssize_t n) except -1:
    cdef Py_ssize_t i
    for i in range(n):
        still_there(messages, i)
        add_item(batch, i, queue, <object>PyList_GET_ITEM(messages, i))
    return 0


cdef int add_columns(Batch* batch, list queues, list messages, Py_ssize_t n) except -1:
    cdef Py_ssize_t i
    for i in range(n):
        still_there(queues, i)
        still_there(messages, i)
        add_item(
            batch, i, <object>PyList_GET_ITEM(queues, i), <object>PyList_GET_ITEM(messages, i)
        )
    return 0


cdef int put_batch(Core core, Batch* batch) except -1:
    cdef Store* s = &core.s
    cdef int result = DONE
    cdef uint64_t frame
    cdef Use use
    enter(core, &use, True)
    with nogil:
        put_items(s, batch.items, batch.count, &result)
        if result == DONE and s.durability == DURABILITY_ALWAYS:
            pthread_mutex_lock(&s.lock)
            frame = s.frame_number - (0 if s.frame_entries else 1)
            result = journal_wait(s, frame)
            pthread_mutex_unlock(&s.lock)
    leave(core, &use)
    if result != DONE:
        raise MemoryError("no memory for the messages") if result == NO_MEMORY else (
            core.failure()
        )
    return 0


cdef list offsets_of(Batch* batch):
    cdef list offsets = PyList_New(batch.count)
    cdef Py_ssize_t i
    cdef object number
    for i in range(batch.count):
        number = batch.items[i].offset
        Py_INCREF(number)
        PyList_SET_ITEM(offsets, i, number)
    return offsets
