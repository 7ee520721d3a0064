"""Wing: VisCPM-Chat and CPM-Bee (Hu et al., arXiv 2308.12038), read from their released files."""
