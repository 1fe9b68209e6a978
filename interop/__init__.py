"""dragoman beside the real Dubbo: Java programs, a recorder of their bytes, and a matrix of who can
call whom. ``docs/interop.md`` says how to run it."""
