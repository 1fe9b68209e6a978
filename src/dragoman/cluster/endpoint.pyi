from dragoman.cluster.member import protocol_of as protocol_of
from dragoman.cluster.peer import GOODBYE as GOODBYE
