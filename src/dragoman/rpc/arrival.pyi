from dragoman.rpc.turn import Gathering

class Arriving(Gathering):
    """A connection that takes in frames."""
