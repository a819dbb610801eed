"""No connector: the language model reads the metadata alone."""

from __future__ import annotations

from tgqformer.connectors.base import Connector, ConnectorInput, ConnectorOutput, ConnectorWidths


class NoConnector(Connector):
    """No visual token at all: text only."""

    attends = True

    def __init__(self, widths: ConnectorWidths) -> None:
        super().__init__()
        self.tokens, self.width = 0, 1

    def forward(self, inputs: ConnectorInput) -> ConnectorOutput:
        """Return [B, 0, 1]."""
        return ConnectorOutput(inputs.visual.new_zeros(inputs.visual.shape[0], 0, 1))


class Frozen(NoConnector):
    """Nothing is learned at all: the embedding is the frozen vector of picture and text."""

    learns = False
