"""What runs on the machines of a Ray cluster: the replica of a model, its weights, the application around it.

Imports Ray, and torch only in a replica; the server process uses neither.
"""
