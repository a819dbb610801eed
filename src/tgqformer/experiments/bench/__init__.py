"""The bench: one YAML of a grid -> cells that are trained and measured alike -> tables and a report."""
