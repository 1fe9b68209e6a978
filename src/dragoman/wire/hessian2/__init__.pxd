# hessian2 in one place: strings, reader, writer and scanner (each in a module of its own).

from dragoman.wire.hessian2.scanner cimport Hessian2Scanner
from dragoman.wire.hessian2.reader cimport Hessian2Reader
from dragoman.wire.hessian2.string cimport hessian_string_to_utf8, write_hessian_string
from dragoman.wire.hessian2.writer cimport Hessian2Writer
