"""Picto, the embedded world: pictograms in three drawing styles, named by people in over a hundred languages."""
