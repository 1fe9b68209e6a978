"""One connection between two programs: sessions, requests in flight, write gathering, credits."""
