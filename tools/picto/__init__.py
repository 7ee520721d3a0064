"""Builders of what the package `polylens.picto` ships: its data, and the pretraining of its tiny parts."""
