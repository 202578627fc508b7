"""The library: records, tables, stages and models of the engine."""

__version__ = "0.1.0"
