"""The built-in engine: one process that loads one model and answers in OpenAI's dialect on a Unix socket.

Runs as `python -m ecotone.engines.server` and is imported by no other package. `folders` decides from the files what a
model is, `loading` loads it, `generation` and `embedding` compute in a thread of their own, `requests` reads bodies,
`face` is the HTTP side.
"""
