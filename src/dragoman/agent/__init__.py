"""The sidecar: HTTP ingress (consumer), Dubbo egress (provider), supervision, admin."""
