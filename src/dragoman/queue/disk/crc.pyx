"""CRC-32C, with the processor's instruction where it has one, else with tables.

The inline C is in ``crc.pxd`` and compiled into each module that uses it; what stands here is for
Python (recovery's cold paths, tests).
"""

from dragoman.queue.disk.crc cimport crc, crc_prepare, crc_soft

crc_prepare()


def crc32c(const unsigned char[::1] data not None, unsigned int before=0):
    """The checksum of ``data``, continuing ``before``."""
    if data.shape[0] == 0:
        return before
    return crc(before, &data[0], data.shape[0])


def crc32c_without_hardware(const unsigned char[::1] data not None, unsigned int before=0):
    """The same by tables alone."""
    if data.shape[0] == 0:
        return before
    return crc_soft(before, &data[0], data.shape[0])
