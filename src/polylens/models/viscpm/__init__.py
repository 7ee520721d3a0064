"""VisCPM-Chat: BEiT-3 with queries, a mapping, and CPM-Bee (arXiv 2308.12038)."""
