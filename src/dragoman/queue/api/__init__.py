"""What programs use of a store; `dragoman.queue` has all of it."""
