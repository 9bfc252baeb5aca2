"""The process that stands before an engine of another make: it speaks the built-in engine's wire on the deployment's
socket, and that engine's own on the other side. Needs neither torch nor the engine's libraries.

`face` the socket's side, `far` what stands behind and how it is asked, `passing` one call on its way, `tasks` and
`tei` task bodies in the other's words; `vllm`, `attached` and `ray` the makes.
"""
