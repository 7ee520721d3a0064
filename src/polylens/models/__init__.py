"""Models: image encoders, resamplers, any language model, and what joins them (`vlm.py`)."""
