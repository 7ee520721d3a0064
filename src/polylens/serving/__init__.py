"""Serving: continuous batching of any model behind an OpenAI-compatible API. Needs the extra `serve`."""
