"""HTTP in: the consumer agent's connections. The contracts are those of ``docs/http.md``.

A connection feeds the HTTP decoder (``connection``), makes each request a call to its service
(``requests``) and writes the replies in the order of the requests. There is no task and no
coroutine on this path, and a form is not parsed beyond the fields that choose its service: it
travels as it came. Large JSON calls are looked through a piece at a time (``large``). Used by
``agent.consumer``.
"""

from dragoman.agent.ingress.limits import Limits
from dragoman.agent.ingress.requests import IngressConnection
from dragoman.agent.ingress.shared import Ingress

__all__ = ["Ingress", "IngressConnection", "Limits"]
