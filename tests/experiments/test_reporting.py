"""What a run's report says of its examples."""

from __future__ import annotations

from tgqformer.experiments.reporting import example_rule


def test_the_rule_of_the_examples_names_wins_and_losses() -> None:
    two = example_rule(["A", "B"], 8)
    assert "first the 6 for which A finds more partners than B finds among the 6 nearest" in two
    assert "then the 2 with the smallest lead: its losses" in two
    assert "first the 6 for which A finds most partners among the 6 nearest" in example_rule(["A"], 8)
