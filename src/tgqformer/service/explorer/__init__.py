"""The web explorer: pages to look at products, their neighbours and why they are near. Same process as the API."""

from tgqformer.service.explorer.routes import make_explorer

__all__ = ["make_explorer"]
