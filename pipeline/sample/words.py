"""Small matters of English."""

from __future__ import annotations


def with_article(words: str) -> str:
    """Return words with 'a' or 'an' before them."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def as_sentence(words: str) -> str:
    """Return words with a capital at the start and a full stop at the end."""
    return f"{words[0].upper()}{words[1:]}."
