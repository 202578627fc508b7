"""The captioner without a model: measured motion in words."""
