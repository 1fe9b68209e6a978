from dragoman.cluster.peer import GOODBYE as GOODBYE
from dragoman.cluster.peer import protocol_of as protocol_of
