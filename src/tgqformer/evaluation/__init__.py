"""Evaluation: embeddings and pairs become metrics, intervals, cost, pictures and the report."""
