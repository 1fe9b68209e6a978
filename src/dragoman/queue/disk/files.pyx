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
from libc.errno cimport EAGAIN, EINTR, EINVAL, EIO, ENOSPC, ESTALE, errno
from libc.string cimport memcpy
from posix.fcntl cimport O_CLOEXEC
from posix.types cimport off_t
from posix.unistd cimport close as c_close
from posix.unistd cimport fdatasync, fsync, ftruncate

cdef extern from "fcntl.h" nogil:
    int AT_FDCWD
    int c_openat "openat"(int directory, const char* name, int flags, int mode)
    int c_fallocate "fallocate"(int fd, int mode, off_t offset, off_t n)
    int FALLOC_FL_KEEP_SIZE
cdef extern from "sys/stat.h" nogil:
    struct struct_stat "stat":
        unsigned long st_nlink
    int c_fstat "fstat"(int fd, struct_stat* into)
cdef extern from "unistd.h" nogil:
    int c_unlinkat "unlinkat"(int directory, const char* name, int flags)
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
        if got & 4095:
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


cdef int direct_open(Disk* disk, const char* name, int flags) noexcept nogil:
    cdef int fd = c_openat(disk.directory, name, flags | O_CLOEXEC, 0o644)
    return fd if fd >= 0 else -errno


cdef int direct_close(Disk* disk, int fd) noexcept nogil:
    return 0 if c_close(fd) == 0 else -errno


cdef int direct_truncate(Disk* disk, int fd, uint64_t length) noexcept nogil:
    return 0 if ftruncate(fd, length) == 0 else -errno


cdef int direct_unlink(Disk* disk, const char* name) noexcept nogil:
    return 0 if c_unlinkat(disk.directory, name, 0) == 0 else -errno


cdef int direct_sync_directory(Disk* disk) noexcept nogil:
    return 0 if fsync(disk.directory) == 0 else -errno


cdef int direct_named(Disk* disk, int fd) noexcept nogil:
    cdef struct_stat status
    if c_fstat(fd, &status) != 0:
        return -errno
    return 0 if status.st_nlink else -ESTALE


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


cdef int python_open(Disk* disk, const char* name, int flags) noexcept with gil:
    try:
        return (<object>disk.context).open(os.fsdecode(<bytes>name), flags)
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


cdef int python_unlink(Disk* disk, const char* name) noexcept with gil:
    try:
        (<object>disk.context).unlink(os.fsdecode(<bytes>name))
    except BaseException as error:
        return _code(error)
    return 0


cdef int python_sync_directory(Disk* disk) noexcept with gil:
    try:
        (<object>disk.context).sync_directory()
    except BaseException as error:
        return _code(error)
    return 0


cdef int python_named(Disk* disk, int fd) noexcept with gil:
    try:
        return 0 if (<object>disk.context).named(fd) else -ESTALE
    except BaseException as error:
        return _code(error)


cdef class Files:
    """What one store does to its files. Subclasses may replace any method; each raises OSError.

    Names are those of files in ``directory``, a descriptor that the store's ``StoreDirectory`` owns
    and sets while it is open: the path that led there may mean another directory by now. At first
    it is the process's working directory.
    """

    def __cinit__(self):
        self.disk.directory = AT_FDCWD
        cdef bint direct = type(self) is Files
        self.disk.read = direct_read if direct else python_read
        self.disk.write = direct_write if direct else python_write
        self.disk.sync = direct_sync if direct else python_sync
        self.disk.open = direct_open if direct else python_open
        self.disk.close = direct_close if direct else python_close
        self.disk.truncate = direct_truncate if direct else python_truncate
        self.disk.unlink = direct_unlink if direct else python_unlink
        self.disk.sync_directory = direct_sync_directory if direct else python_sync_directory
        self.disk.named = direct_named if direct else python_named
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

    @property
    def directory(self):
        """The directory's descriptor."""
        return self.disk.directory

    @directory.setter
    def directory(self, int descriptor):
        """Names are looked for there from now on."""
        self.disk.directory = descriptor

    def open(self, str name, int flags):
        """A descriptor; ``flags`` are those of open(2)."""
        return os.open(name, flags | O_CLOEXEC, 0o644, dir_fd=self.disk.directory)

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

    def unlink(self, str name):
        """Remove the name."""
        os.unlink(name, dir_fd=self.disk.directory)

    def rename(self, str source, str target):
        """Rename; durable only after ``sync_directory``."""
        directory = self.disk.directory
        os.rename(source, target, src_dir_fd=directory, dst_dir_fd=directory)

    def sync_directory(self):
        """fsync of the directory: the names in it are on the disk."""
        os.fsync(self.disk.directory)

    def named(self, int fd):
        """Whether the file still has a name; what is written to one without is nobody's."""
        return os.fstat(fd).st_nlink > 0
