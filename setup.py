"""Builds the Cython extensions; everything else about the package stands in pyproject.toml.

Every ``.pyx`` below ``src/dragoman`` becomes one extension module. ``DRAGOMAN_CHECKED=1`` builds
with bounds checks (`make checked-test`), ``DRAGOMAN_ANNOTATE=1`` writes Cython's annotated HTML
beside the sources. ``DRAGOMAN_EXTENSIONS=0`` leaves them out: `make setup` installs the package so,
and builds them itself, since an editable install builds them all in a place where the next build
does not find them.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

CORES = os.cpu_count() or 1
WANTED = os.environ.get("DRAGOMAN_EXTENSIONS") != "0"
CHECKED = os.environ.get("DRAGOMAN_CHECKED") == "1"
SOURCE = Path("src")


def extensions() -> list[Extension]:
    return [
        Extension(
            ".".join(path.relative_to(SOURCE).with_suffix("").parts),
            [str(path)],
            # -w: what gcc says of generated C helps nobody; Cython itself has warned before.
            extra_compile_args=["-O3", "-g0", "-fno-strict-aliasing", "-w"],
        )
        for path in sorted(SOURCE.rglob("*.pyx"))
        if WANTED
    ]


setup(
    options={"build_ext": {"parallel": CORES}},
    ext_modules=cythonize(
        extensions(),
        include_path=[str(SOURCE)],
        nthreads=CORES,
        annotate=os.environ.get("DRAGOMAN_ANNOTATE") == "1",
        compiler_directives={
            "language_level": 3,
            "boundscheck": CHECKED,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
            "embedsignature": True,
            "binding": False,
            "freethreading_compatible": False,
        },
    ),
)
