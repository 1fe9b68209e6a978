"""The seam to the file system: every byte the store reads or writes goes through a ``Disk``.

The engine calls a table of C functions. For ``Files`` itself they are system calls; for a subclass
they call its Python methods, so that tests can drop, tear and reorder writes or fail them
(``tests/queue/faults.py``). The invariant: nothing in ``dragoman.queue`` touches a file otherwise,
but for the lock and the list of names in the directory.
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t
from libc.errno cimport EAGAIN, EINTR, EINVAL, EIO, ENOSPC, errno
from libc.string cimport memcpy
from posix.fcntl cimport O_CLOEXEC, O_RDONLY, O_DIRECTORY
from posix.fcntl cimport open as c_open
from posix.types cimport off_t
from posix.unistd cimport close as c_close
from posix.unistd cimport fdatasync, fsync, ftruncate
from posix.unistd cimport unlink as c_unlink

cdef extern from "fcntl.h" nogil:
    int c_fallocate "fallocate"(int fd, int mode, off_t offset, off_t n)
    int FALLOC_FL_KEEP_SIZE
cdef extern from "unistd.h" nogil:
    ssize_t c_pread "pread"(int fd, void* into, size_t n, off_t offset)
    ssize_t c_pwrite "pwrite"(int fd, const void* data, size_t n, off_t offset)


cdef int64_t direct_read(Disk* disk, int fd, char* into, size_t n, uint64_t offset) noexcept nogil:
    """Bytes read, fewer only at the end of the file."""
    cdef size_t done = 0
    cdef ssize_t got
    while done < n:
        got = c_pread(fd, into + done, n - done, offset + done)
        if got < 0:
            if errno == EINTR or errno == EAGAIN:
                continue
            return -errno
        if got == 0:
            break
        done += got
        if got & 511:
            break  # the end of the file: what O_DIRECT reads is in whole sectors otherwise
    return done


cdef int direct_write(
    Disk* disk, int fd, const char* data, size_t n, uint64_t offset
) noexcept nogil:
    cdef size_t done = 0
    cdef ssize_t wrote
    while done < n:
        wrote = c_pwrite(fd, data + done, n - done, offset + done)
        if wrote < 0:
            if errno == EINTR or errno == EAGAIN:
                continue
            return -errno
        if wrote == 0:
            return -ENOSPC
        done += wrote
    return 0


cdef int direct_sync(Disk* disk, int fd) noexcept nogil:
    return 0 if fdatasync(fd) == 0 else -errno


cdef int direct_open(Disk* disk, const char* path, int flags) noexcept nogil:
    cdef int fd = c_open(path, flags | O_CLOEXEC, 0o644)
    return fd if fd >= 0 else -errno


cdef int direct_close(Disk* disk, int fd) noexcept nogil:
    return 0 if c_close(fd) == 0 else -errno


cdef int direct_truncate(Disk* disk, int fd, uint64_t length) noexcept nogil:
    return 0 if ftruncate(fd, length) == 0 else -errno


cdef int direct_unlink(Disk* disk, const char* path) noexcept nogil:
    return 0 if c_unlink(path) == 0 else -errno


cdef int direct_sync_directory(Disk* disk, const char* path) noexcept nogil:
    cdef int result
    cdef int fd = c_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if fd < 0:
        return -errno
    result = 0 if fsync(fd) == 0 else -errno
    c_close(fd)
    return result


cdef int _code(object error) noexcept:
    number = getattr(error, "errno", None)
    return -<int>number if isinstance(number, int) and number > 0 else -EIO


cdef int64_t python_read(
    Disk* disk, int fd, char* into, size_t n, uint64_t offset
) noexcept with gil:
    cdef bytes data
    try:
        data = (<object>disk.context).read(fd, n, offset)
    except BaseException as error:
        return _code(error)
    if PyBytes_GET_SIZE(data) > <ssize_t>n:
        return -EINVAL
    memcpy(into, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return PyBytes_GET_SIZE(data)


cdef int python_write(
    Disk* disk, int fd, const char* data, size_t n, uint64_t offset
) noexcept with gil:
    cdef size_t done = 0
    try:
        while done < n:
            wrote = (<object>disk.context).write(
                fd, PyBytes_FromStringAndSize(data + done, n - done), offset + done
            )
            if wrote <= 0:
                return -ENOSPC
            done += wrote
    except BaseException as error:
        return _code(error)
    return 0


cdef int python_sync(Disk* disk, int fd) noexcept with gil:
    try:
        (<object>disk.context).sync(fd)
    except BaseException as error:
        return _code(error)
    return 0


cdef int python_open(Disk* disk, const char* path, int flags) noexcept with gil:
    try:
        return (<object>disk.context).open(os.fsdecode(<bytes>path), flags)
    except BaseException as error:
        return _code(error)


cdef int python_close(Disk* disk, int fd) noexcept with gil:
    try:
        (<object>disk.context).close(fd)
    except BaseException as error:
        return _code(error)
    return 0


cdef int python_truncate(Disk* disk, int fd, uint64_t length) noexcept with gil:
    try:
        (<object>disk.context).truncate(fd, length)
    except BaseException as error:
        return _code(error)
    return 0


cdef int python_unlink(Disk* disk, const char* path) noexcept with gil:
    try:
        (<object>disk.context).unlink(os.fsdecode(<bytes>path))
    except BaseException as error:
        return _code(error)
    return 0


cdef int python_sync_directory(Disk* disk, const char* path) noexcept with gil:
    try:
        (<object>disk.context).sync_directory(os.fsdecode(<bytes>path))
    except BaseException as error:
        return _code(error)
    return 0


cdef class Files:
    """What the store does to files. Subclasses may replace any method; each raises OSError."""

    def __cinit__(self):
        cdef bint direct = type(self) is Files
        self.disk.read = direct_read if direct else python_read
        self.disk.write = direct_write if direct else python_write
        self.disk.sync = direct_sync if direct else python_sync
        self.disk.open = direct_open if direct else python_open
        self.disk.close = direct_close if direct else python_close
        self.disk.truncate = direct_truncate if direct else python_truncate
        self.disk.unlink = direct_unlink if direct else python_unlink
        self.disk.sync_directory = direct_sync_directory if direct else python_sync_directory
        # Borrowed: the table lives in the object that it points to.
        self.disk.context = NULL if direct else <void*>self

    def read(self, int fd, size_t n, uint64_t offset):
        """Up to ``n`` bytes at ``offset``; fewer only at the end of the file."""
        return os.pread(fd, n, offset)

    def write(self, int fd, bytes data, uint64_t offset):
        """Write at ``offset``; returns how many bytes were written, which may be fewer."""
        return os.pwrite(fd, data, offset)

    def sync(self, int fd):
        """fdatasync: what was written to the file, and its length, are on the disk."""
        os.fdatasync(fd)

    def open(self, str path, int flags):
        """A descriptor; ``flags`` are those of open(2)."""
        return os.open(path, flags | O_CLOEXEC, 0o644)

    def close(self, int fd):
        """Close the descriptor."""
        os.close(fd)

    def truncate(self, int fd, uint64_t length):
        """Cut or extend the file."""
        os.ftruncate(fd, length)

    def reserve(self, int fd, uint64_t offset, uint64_t n):
        """Room for ``n`` bytes at ``offset``, beyond the file's end, which stays where it is.

        False where the file system cannot do that, or has not got them.
        """
        cdef int result
        with nogil:
            result = c_fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, n)
        return result == 0

    def unlink(self, str path):
        """Remove the name."""
        os.unlink(path)

    def rename(self, str source, str target):
        """Rename within the directory; durable only after ``sync_directory``."""
        os.rename(source, target)

    def sync_directory(self, str path):
        """fsync of the directory: the names in it are on the disk."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
