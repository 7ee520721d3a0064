"""Model folders: formats read and written, names resolved, hub downloads, sizes."""
