"""`tgq model`: the card of a saved model, and the way to the Hugging Face Hub."""

from __future__ import annotations

from typing import Annotated

import typer

from tgqformer.cli.commands import Group, say
from tgqformer.cli.options import MODEL_HELP

app = Group(name="model", help="Look at a saved model, or put it on the Hugging Face Hub.", no_args_is_help=True)
ModelPlace = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
LocalOnly = Annotated[
    bool, typer.Option("--local-files-only", help="Take a model of the hub from the cache, and ask nobody.")
]


@app.command()
def card(model: ModelPlace, local_files_only: LocalOnly = False) -> None:
    """Print the card of a model: what it is, what it was trained on, how good it was, and where it ends.

    Examples:

        tgq model card demo/models/tgq-former/seed-0/model

        tgq model card small
    """
    from tgqformer.model.card import card_of, read_card
    from tgqformer.model.embedder import ItemEmbedder
    from tgqformer.model.hub import locate_model

    folder = locate_model(model, local_files_only=local_files_only)
    say(read_card(folder) or card_of(ItemEmbedder.load(folder)))


@app.command()
def push(
    model: ModelPlace,
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Where on the hub; made if it is not there.")],
    revision: Annotated[str | None, typer.Option(help="A branch, made if it is not there.  [default: main]")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    message: Annotated[str, typer.Option(help="Of the commit.")] = "A model of tgqformer",
) -> None:
    """Put a saved model with its card on the Hugging Face Hub, and print its name there with the commit.

    Log in with `hf auth login` first, or set HF_TOKEN. Only settings, safetensors, tokenizers and the card go there.

    Example:

        tgq model push demo/models/tgq-former/seed-0/model me/similar-items --private
    """
    from tgqformer.model.embedder import ItemEmbedder
    from tgqformer.model.hub import locate_model, push_folder

    folder = locate_model(model)
    ItemEmbedder.load(folder)  # raises where it is damaged
    say(push_folder(folder, repo, revision=revision, private=private or None, message=message))
