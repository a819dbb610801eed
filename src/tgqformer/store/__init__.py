"""Embeddings on disk, the vector table that is served, and exact neighbours in bulk."""
