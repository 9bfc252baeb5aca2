"""What `InferenceClient` asks of encoders, a module for each task. Pure: texts in, sequences to compute; arrays in,
answer out. `deciding` tells which task a body means."""
