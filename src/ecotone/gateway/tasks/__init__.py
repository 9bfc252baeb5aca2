"""Hugging Face's inference face: tasks and chat at an address that names the model, as `InferenceClient` calls them.

`addresses` reads paths, `bodies` what is asked, `errors` says refusals as these clients expect them, `streams` follows
what an engine writes, `job` asks it, `desk` takes requests in. The key, decision, limits and records are those of every
request.
"""
