"""Words: the article that fits a noun, and how many of a thing there are."""

from __future__ import annotations


def a(noun: str) -> str:
    """`an integer`, `a number`: by the first letter."""
    return f"{'an' if noun[:1].lower() in ('a', 'e', 'i', 'o') else 'a'} {noun}"


def count(number: int, noun: str = "row") -> str:
    """`1 row`, `2,000 rows`: for nouns that take an s."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
