from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t


cdef struct Disk:
    # Where every byte of the store goes through. Each call returns 0 or what is described,
    # or a negative errno. Names are looked for in ``directory``, a descriptor. ``context`` is the
    # Python object of the slow kind, else NULL.
    int64_t (*read)(Disk*, int fd, char* into, size_t n, uint64_t offset) noexcept nogil
    int (*write)(Disk*, int fd, const char* data, size_t n, uint64_t offset) noexcept nogil
    int (*sync)(Disk*, int fd) noexcept nogil
    int (*open)(Disk*, const char* name, int flags) noexcept nogil
    int (*close)(Disk*, int fd) noexcept nogil
    int (*truncate)(Disk*, int fd, uint64_t length) noexcept nogil
    int (*unlink)(Disk*, const char* name) noexcept nogil
    int (*sync_directory)(Disk*) noexcept nogil
    int (*named)(Disk*, int fd) noexcept nogil  # -ESTALE: the file's last name is gone
    int directory
    void* context


cdef class Files:
    cdef Disk disk
