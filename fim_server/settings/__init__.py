"""The settings: one typed object, its sources, and the documentation generated from it."""
