"""The language server: capabilities, handlers and conversions."""
