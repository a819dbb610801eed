"""Training: an embedder and pairs -> a run."""
