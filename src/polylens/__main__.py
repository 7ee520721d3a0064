"""`python -m polylens` is the command `polylens`."""

from polylens.cli import app

app(prog_name="polylens")
