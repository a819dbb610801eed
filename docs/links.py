"""Where the files of the repository are on the site, and the links between them."""

from __future__ import annotations

import posixpath
import re

FROM_ROOT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "packages/small/README.md": "pretrained.md",
}
"""Pages of the site that lie outside docs/."""
HOMES = {place: posixpath.dirname(source) for source, place in FROM_ROOT.items()}
LINK = re.compile(r"(?<=\]\()(?!https?://|mailto:|#)([^)\s#]+)")


def moved(text: str, page: str) -> str:
    """Return the text of a page with its links leading to where their files are on the site."""

    def there(link: re.Match[str]) -> str:
        return posixpath.relpath(on_site(target(link[1], page)), posixpath.dirname(page) or ".")

    return LINK.sub(there, text)


def target(link: str, page: str) -> str:
    """Return the file of the repository that a link of a page leads to."""
    home = HOMES[page] if page in HOMES else posixpath.join("docs", posixpath.dirname(page))
    return posixpath.normpath(posixpath.join(home, link))


def on_site(file: str) -> str:
    """Return where a file of the repository is on the site; one outside docs/ is copied to files/."""
    return file.removeprefix("docs/") if file.startswith("docs/") else FROM_ROOT.get(file, f"files/{file}")


def outside(text: str, page: str) -> set[str]:
    """Return the files that a page links to which are neither in docs/ nor pages."""
    found = {target(link, page) for link in LINK.findall(text)}
    return {file for file in found if on_site(file).startswith("files/")}
