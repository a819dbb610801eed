"""Click logs -> interactions -> pairs of items, and how they are split."""
