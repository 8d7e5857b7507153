"""Adapting a model to one workspace: `fim-server tune`."""
