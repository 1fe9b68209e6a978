"""A provider's agent: calls of the mesh made Dubbo, on one connection to a provider."""
