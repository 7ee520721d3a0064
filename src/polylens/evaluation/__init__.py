"""How good, how sure, and by which protocol: every score carries its number of items and a 95% interval."""
