"""Reading prompts, scoring candidates, greedy and beam search, and conversations over a KV cache."""
