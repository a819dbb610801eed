"""The model: items -> embeddings."""
