"""The built-in engine: one process that loads one model and answers in OpenAI's dialect on a Unix socket.

Runs as `python -m ecotone.engines.server` and is imported by no other package. `folders` decides from the files what a
model is, `loading` loads it, `opening` makes it ready. Models that write: `generation` computes in a thread of its own,
`requests` reads bodies, `face` is the HTTP side. Encoders: `encoding` computes, `tasks` knows each task, and
`embeddings_face` and `tasks_face` are the HTTP side.
"""
