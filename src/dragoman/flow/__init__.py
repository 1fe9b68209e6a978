"""Whether a request may go now: credits, bounded queue, shedding, breaker, retry budget."""
