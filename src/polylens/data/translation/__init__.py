"""Translation of samples: engines, the cache, what is protected, the quality gate. `run.py` tells the story."""
