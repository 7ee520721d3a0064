"""From files to batches: one record (`sample.py`), readers, pictures, prompts and collation."""
