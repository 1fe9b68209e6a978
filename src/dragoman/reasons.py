"""Why the system, the loop or TLS refused, in words of our own.

What an ``OSError`` says depends on who raised it: asyncio repeats the address, uvloop does not, the
resolver and OpenSSL word things anew from release to release. Everything that shows such an error
to a user asks here; what is sure is its number, and that the system's own words belong to it.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl

# https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/: numbers stay, texts do not.
_EXPIRED, _NOT_YET = (10,), (9,)
_UNKNOWN_ISSUER = (2, 18, 19, 20, 21)
_OTHER_NAME = (62, 63, 64)


def reason(error: BaseException) -> str:
    """The cause of an error, without the name of a class, an address or a line of a library."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {_certificate(error.verify_code)}"
    if isinstance(error, ssl.SSLError):
        return "TLS: the other end speaks none, or refused the handshake"
    if isinstance(error, TimeoutError) and not (isinstance(error, OSError) and error.errno):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return "the host's name is not known"
    if isinstance(error, OSError):
        if error.errno in errno.errorcode:
            return os.strerror(error.errno or 0)
        if str(error).startswith("Multiple exceptions"):
            return "none of the host's addresses can be connected to"
    return str(error) or type(error).__name__


def annotation_fault(error: BaseException) -> str:
    """Why annotations cannot be read: mostly a name that nobody has defined where they stand."""
    name = getattr(error, "name", None)
    return f"{name!r} is not defined" if isinstance(error, NameError) and name else str(error)


def _certificate(code: int) -> str:
    if code in _EXPIRED:
        return "the certificate has expired"
    if code in _NOT_YET:
        return "the certificate is not valid yet"
    if code in _UNKNOWN_ISSUER:
        return "the certificate is from nobody who is trusted"
    if code in _OTHER_NAME:
        return "the certificate is for another name"
    return f"the certificate was not accepted ({code} of X.509's checks)"
