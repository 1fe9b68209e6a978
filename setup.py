"""Builds the Cython extensions; everything else about the package stands in pyproject.toml.

Every ``.pyx`` below ``src/dragoman`` becomes one extension module, made C only when extensions are
built: a source distribution has the ``.pyx`` and no C. Where there is none to build, building is
refused: without its compiled half the package installs and cannot be imported.

``DRAGOMAN_CHECKED=1`` builds with bounds checks (`make checked-test`), ``DRAGOMAN_ANNOTATE=1``
writes Cython's annotated HTML beside the sources, ``DRAGOMAN_OPTIMIZE=0`` compiles quickly and
makes slow code, for tests of the build itself. ``DRAGOMAN_EXTENSIONS=0`` leaves them out: `make
setup` installs the package so, and builds them itself, since an editable install builds them all in
a place where the next build does not find them.

A warning of Cython's ends the build of a checkout. Released sources are built all the same, since
they may meet a Cython that warns of more.
"""

import multiprocessing
import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CORES = os.cpu_count() or 1
WANTED = os.environ.get("DRAGOMAN_EXTENSIONS") != "0"
CHECKED = os.environ.get("DRAGOMAN_CHECKED") == "1"
LEVEL = os.environ.get("DRAGOMAN_OPTIMIZE", "3")
SOURCE = Path("src")
RELEASED = Path("PKG-INFO").exists()
# Commands whose result runs without this directory.
WHOLE = {"bdist_wheel", "bdist", "install", "build", "sdist"}


def extensions() -> list[Extension]:
    found = [
        Extension(
            ".".join(path.relative_to(SOURCE).with_suffix("").parts),
            [str(path)],
            # -w: what gcc says of generated C helps nobody; Cython itself has warned before.
            extra_compile_args=[f"-O{LEVEL}", "-g0", "-fno-strict-aliasing", "-w"],
        )
        for path in sorted(SOURCE.rglob("*.pyx"))
    ]
    if not found:
        sys.exit("dragoman: there is no .pyx below src: these sources are not whole")
    if not WANTED and WHOLE & set(sys.argv):
        sys.exit("dragoman: DRAGOMAN_EXTENSIONS=0 is for editable installs only")
    return found if WANTED else []


def remove_stale() -> None:
    """Remove what was built beside sources that are there no longer: it could still be imported."""
    for built in (*SOURCE.rglob("*.so"), *SOURCE.rglob("*.c")):
        if not (built.parent / f"{built.name.partition('.')[0]}.pyx").exists():
            built.unlink()


class BuildExtensions(build_ext):
    """Makes C of the sources right before it is compiled."""

    def run(self) -> None:
        from Cython.Build import cythonize
        from Cython.Compiler import Options

        Options.warning_errors = not RELEASED
        # Cython's workers are to know that option, and not to run this file.
        multiprocessing.set_start_method("fork", force=True)
        remove_stale()
        # Cython looks at the sources only; what it is told here makes other C, too.
        told_s = Path(__file__).stat().st_mtime
        made_of = (Path(each.sources[0]).with_suffix(".c") for each in self.extensions)
        made = cythonize(
            self.extensions,
            force=any(each.exists() and each.stat().st_mtime < told_s for each in made_of),
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
                # What inspect.signature and completion read, at no cost of a call.
                "embedsignature.format": "clinic",
                "binding": False,
                "freethreading_compatible": False,
            },
        )
        sources = {each.name: each.sources for each in made}
        for each in self.extensions:
            each.sources = sources[each.name]
        super().run()


setup(
    options={"build_ext": {"parallel": CORES}},
    cmdclass={"build_ext": BuildExtensions},
    ext_modules=extensions(),
)
