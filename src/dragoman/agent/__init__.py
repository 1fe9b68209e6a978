"""The sidecar: HTTP in (consumer), mesh in (provider), supervision, admin."""
