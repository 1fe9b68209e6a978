"""dragoman: an interpreter between programs that do not share a language."""

# The one place where it is written; the build reads it from here.
__version__ = "0.1.0"
