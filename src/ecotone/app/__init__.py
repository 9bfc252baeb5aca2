"""Composition of the whole program: settings -> services -> one ASGI application, and the processes that run it."""
