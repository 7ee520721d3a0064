"""Readers of official files, one module per source; each yields plain samples, English unless the file says otherwise."""
