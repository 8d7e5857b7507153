"""The network: one contract, and its implementations."""
