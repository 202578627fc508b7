"""Annotation files of others: one reader a format, and the registry of them."""
