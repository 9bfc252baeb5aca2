"""The demonstration: the whole product with real clients, each command printed."""
