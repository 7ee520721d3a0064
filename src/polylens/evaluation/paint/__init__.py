"""How good painted pictures are: Frechet distances to real ones, and how well they fit their prompts."""
