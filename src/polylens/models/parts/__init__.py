"""What a model is composed of: vision towers, resamplers, projectors, adapters, precision."""
