"""Polylens: vision-language models for any language, out of parts that exist."""

__version__ = "0.1.0"
