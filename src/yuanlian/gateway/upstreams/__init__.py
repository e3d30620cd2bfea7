"""Where requests go: the port of an upstream; adapters are beside it."""
