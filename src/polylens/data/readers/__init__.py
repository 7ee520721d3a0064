"""Readers of official files, one module per source; each yields plain samples.

A reader is a generator function of `path` and options. It raises `UserError`, naming file and place, for what
is not as published; whether the pictures are there is looked at later, once for all readers, in `sources`.
"""
