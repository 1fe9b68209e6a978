"""Groups that share work: leases, attempts, dead letters."""
