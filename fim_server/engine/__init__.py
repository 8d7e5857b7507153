"""The engine: one process a machine that owns the model and serves every editor over HTTP.

`place`, `wire` and `launch` are for both ends and import nothing heavy; the rest is the process.
"""
