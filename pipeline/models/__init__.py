"""Captioners and synthesizers, each backend behind a small Protocol."""
