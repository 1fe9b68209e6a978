from dragoman.rpc.tick import Gathering

class Arriving(Gathering):
    """A connection that takes in frames."""
