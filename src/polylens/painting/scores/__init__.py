"""Scores of painted pictures: Frechet distances and CLIP similarity."""
