# The structures that the engine's modules share. docs/architecture/queue.md says how they play
# together.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from dragoman.queue.disk.files cimport Disk
from dragoman.queue.disk.readahead cimport Touching
from dragoman.queue.memory.layout cimport CHUNK_DATA, INLINE_NAME, QUEUE_ALIVE, same_bytes
from dragoman.queue.memory.threads cimport pthread_cond_t, pthread_mutex_t


cdef struct Chunk:
    uint32_t next
    char data[CHUNK_DATA]


cdef struct Queue:
    # 64 bytes: one cache line each.
    uint64_t next  # the offset that the next message gets
    uint64_t* index  # see index.pyx; NULL while the queue has neither blocks nor a trim
    uint32_t entries
    uint32_t hash
    uint32_t head  # first and last chunk of the tail, 0 for none
    uint32_t cur
    uint32_t bytes  # of the tail's records
    uint16_t count
    uint16_t uniform  # length of all the tail's messages + 1, or MIXED
    uint8_t used  # of the last chunk's data
    uint8_t flags
    uint16_t name_length  # less one
    uint32_t birth  # journal file that holds the tail's first message, 0 for none
    char name[INLINE_NAME]  # or a pointer, where the name is longer


cdef struct Pending:
    # A tail on its way to the log.
    uint32_t queue
    uint32_t head
    uint32_t bytes
    uint16_t count
    uint16_t uniform
    uint64_t first
    uint64_t block  # number of its entry, counted over the queue's life
    char* big  # instead of chunks: one message of ``bytes`` bytes, owned
    uint64_t place  # by the writer, once gathered
    uint32_t length  # of the payload


cdef struct Bytes:
    # A growing buffer.
    char* data
    size_t length
    size_t capacity


cdef struct Table:
    Queue* queues
    uint32_t ids  # the next id; 0 is none
    uint32_t ids_max
    uint32_t alive
    uint64_t* slots
    uint64_t mask
    uint64_t seed
    Chunk* chunks
    uint32_t chunks_top
    uint32_t chunks_max
    uint32_t* free
    uint32_t free_count
    uint32_t retiring  # chunks from this one on are on their way out; 0: none
    uint32_t* retired  # those that are out already
    uint32_t retired_count
    uint64_t touched  # bytes of chunks that were taken from the system ahead of their use
    uint64_t chunks_used
    uint64_t index_bytes
    uint64_t name_bytes
    uint32_t limit  # the block size now
    uint32_t run  # more than 0: lately the queues came in the order in which they were made
    uint32_t last  # ids of the last two puts that did not follow each other
    uint32_t last_but_one
    uint64_t messages  # put since opening, and found by it
    uint64_t message_bytes
    Pending* ring
    uint64_t ring_size
    uint64_t ring_mask
    uint64_t ring_bytes_max
    uint64_t ring_head
    uint64_t ring_tail
    uint64_t ring_bytes


cdef enum SegmentState:
    SEGMENT_FREE  # the slot has none
    SEGMENT_SEALED
    SEGMENT_WRITING
    SEGMENT_REMOVING  # as soon as nobody reads it
    SEGMENT_COMPACTING
    SEGMENT_UNSETTLED  # sealed, but queues do not know yet of its last blocks
    SEGMENT_COPYING  # being made by compaction


cdef enum Durability:
    DURABILITY_NONE
    DURABILITY_INTERVAL
    DURABILITY_ALWAYS


cdef struct Segment:
    uint64_t number
    uint64_t serial  # of this use of the slot: a segment that was compacted keeps its number
    uint64_t length
    uint64_t live  # bytes that blocks which queues still have take, by ``block_cost``
    int fd
    uint32_t readers
    uint32_t used
    uint32_t newest_s
    uint8_t state  # a SegmentState
    bint aside  # damaged: never compacted


cdef struct Store:
    pthread_mutex_t lock  # over everything but what a comment gives to one thread
    int wanted  # the log's writer waits for the lock
    pthread_cond_t work  # the log's writer has something to do
    pthread_cond_t space  # the ring has room, or the writer is done
    pthread_cond_t journal_work
    pthread_cond_t durable
    pthread_cond_t upkeep  # the journal is near its bound, or the store closes
    Table table
    Disk* disk
    uint8_t identity[16]
    bint direct  # O_DIRECT is taken
    uint64_t read_align
    bint read_only
    bint closing
    int leaving  # the store closes as soon as the calls under way have ended
    int poison  # errno of the sync that failed, once and for all
    int log_error  # errno of the log's last write, 0 when it works again
    int journal_error
    # The log.
    uint64_t segment_bytes
    Segment* segments
    uint32_t slots_top
    uint32_t open_files
    uint32_t used_clock
    uint64_t serials
    int slot  # being written, -1 for none
    uint64_t number  # of the newest segment
    char* gather  # GATHERED bytes
    uint64_t gather_start  # offset in the segment of gather[0]
    uint64_t gather_fill
    bint mark_due
    Bytes directory
    uint32_t* freed  # chunks of the blocks that were gathered, to be given back
    uint32_t freed_count
    uint64_t synced  # position: segment number << 32 | offset
    uint64_t flush_asked  # by counting: the writer pads and writes what it has
    uint64_t flush_done
    bint writer_alive
    uint64_t memory  # what all of it may use
    uint64_t tail_bytes_max
    uint64_t swept  # id from which the next eviction starts
    uint64_t log_written
    uint64_t blocks_written
    uint64_t block_messages
    uint64_t blocks_read
    uint64_t bytes_read
    uint64_t cache_hits
    uint64_t swept_blocks
    uint64_t compactions
    uint64_t compacted_written
    # META.
    pthread_mutex_t meta_lock  # held while META is written; taken before ``lock``
    int meta_fd
    Bytes meta
    uint64_t meta_start  # offset in the file of meta.data[0]
    uint64_t meta_synced
    uint64_t meta_written
    uint64_t meta_generation
    uint64_t meta_dead  # bytes of records that a rewritten META would not have, about
    uint64_t meta_rewrites
    # The journal.
    int durability  # a Durability
    uint64_t interval_ms
    Bytes frame  # being filled; begins with the frame's header
    Bytes frame_out  # being written, by the journal's thread
    uint64_t frame_most  # bytes of a frame from which on puts wait
    uint32_t frame_entries
    uint64_t frame_number  # of the one being filled
    uint64_t frame_synced  # all up to this one are on the disk
    uint64_t frame_wanted  # somebody waits for this one
    uint64_t frame_written
    uint32_t journal_file
    uint32_t journal_oldest
    uint32_t journal_strays[16]  # numbers between that are somebody else's files
    uint32_t journal_strays_count
    int journal_fd
    uint64_t journal_offset
    uint64_t journal_file_bytes
    uint64_t journal_bytes_max
    bint journal_alive
    bint journal_due  # old tails should leave it soon
    bint journal_full  # puts wait until they have
    uint64_t journal_written
    uint64_t syncs
    # Read blocks: a ring of bytes, overwritten in turn, and a hash of where blocks lie in it.
    char* cache
    uint64_t cache_bytes
    uint64_t cache_head
    uint64_t* cache_slots  # pairs: key, offset
    uint64_t cache_mask
    # Where the last reads of queues ended, by the low bits of the queue's id: who goes on there
    # reads in order. NULL without a cache.
    uint64_t* cursors
    Touching touching  # while the store is being opened


cdef inline const char* queue_name(Queue* q) noexcept nogil:
    if <uint32_t>q.name_length + 1 <= INLINE_NAME:
        return q.name
    return (<char**>q.name)[0]


cdef inline uint32_t queue_name_length(Queue* q) noexcept nogil:
    return <uint32_t>q.name_length + 1


cdef inline bint queue_named(Queue* q, const char* name, uint32_t n) noexcept nogil:
    return (
        q.flags & QUEUE_ALIVE and queue_name_length(q) == n and same_bytes(queue_name(q), name, n)
    )


cdef inline uint64_t queue_first(Queue* q) noexcept nogil:
    return q.index[0] if q.index != NULL else 0


cdef inline uint64_t tail_first(Queue* q) noexcept nogil:
    return q.next - q.count
