"""``python -m dragoman``: the same program as the ``dragoman`` command."""

from dragoman.cli.main import run

if __name__ == "__main__":
    run()
