"""The engine: one process per user that holds the model and serves all editors over HTTP.

`client` runs in the front-end. `paths`, `wire` and `launch` are used by both processes and import
nothing heavy. Everything else runs in the engine process.
"""
