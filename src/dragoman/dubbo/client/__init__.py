"""The calling end of the SDK: clients, stubs, and calls through the mesh."""
