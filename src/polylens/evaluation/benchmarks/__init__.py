"""The benchmarks, one module each, and what they share: interface, protocols, reading, scoring, running."""
