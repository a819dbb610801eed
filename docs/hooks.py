"""Hooks of mkdocs: pages that are made from the code, pages at the root of the repository, links that leave docs/."""

from __future__ import annotations

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "src")]

import links  # noqa: E402
import reference  # noqa: E402


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the reference, those at the root, and the files outside docs/ that pages link to."""
    for source, place in links.FROM_ROOT.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    outside = {
        name: file.src_uri
        for file in files.documentation_pages()
        for name in links.outside(file.content_string, file.src_uri)
    }
    for name, page in outside.items():
        if not (ROOT / name).is_file():
            raise PluginError(f"{page} links to {name}, and there is no such file")
        files.append(File.generated(config, links.on_site(name), abs_src_path=str(ROOT / name)))
    for place, text in reference.pages().items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links of a page to where their files are on the site; those of made pages are right already."""
    made = page.file.src_uri.startswith("reference/")
    return markdown if made else links.moved(markdown, page.file.src_uri)
