"""One module per group of commands; each calls a room and shows its result as text or JSON."""
