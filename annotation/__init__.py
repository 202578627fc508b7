"""Foreign annotations in and out."""
