"""The notebook of the documentation: its cells run, and the page that the site shows.

python docs/notebook.py

runs all cells anew and keeps what they print and show. Nothing here needs Jupyter.
"""

from __future__ import annotations

import ast
import base64
import json
import os
from contextlib import redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

NOTEBOOK = Path(__file__).parent / "similar-items.ipynb"
PAGE = "similar-items.md"
"""Where the page is on the site."""


def read() -> dict[str, Any]:
    """Return the notebook."""
    found: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return found


def run(notebook: dict[str, Any], place: Path) -> list[list[dict[str, Any]]]:
    """Run the cells of code in a folder, one after the other, as Jupyter does; return the outputs of each."""
    before, spaces, found = Path.cwd(), dict[str, Any](), list[list[dict[str, Any]]]()
    os.chdir(place)
    try:
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                found.append(_run("".join(cell["source"]), spaces))
    finally:
        os.chdir(before)
    return found


def _run(code: str, spaces: dict[str, Any]) -> list[dict[str, Any]]:
    """Run one cell; the value of an expression at its end is shown."""
    tree, said = ast.parse(code), StringIO()
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with redirect_stdout(said):
        exec(compile(tree, "cell", "exec"), spaces)
        value = (
            eval(compile(ast.Expression(last.value), "cell", "eval"), spaces) if isinstance(last, ast.Expr) else None
        )
    outputs = [{"output_type": "stream", "name": "stdout", "text": _lines(said.getvalue())}] if said.getvalue() else []
    if value is None:
        return outputs
    data: dict[str, Any] = {"text/plain": _lines(repr(value))}
    if hasattr(value, "save") and hasattr(value, "size"):
        file = BytesIO()
        value.save(file, "JPEG", quality=80)
        data = {"image/jpeg": base64.b64encode(file.getvalue()).decode(), "text/plain": ["a picture"]}
    result = {"output_type": "execute_result", "execution_count": None, "metadata": {}, "data": data}
    return [*outputs, result]


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def page(notebook: dict[str, Any]) -> str:
    """Return the notebook as a page of Markdown, with what its cells printed and showed."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/jpeg" in data:
                parts.append(f'<img alt="What the cell above shows" src="data:image/jpeg;base64,{data["image/jpeg"]}">')
            else:
                text = "".join(output.get("text") or data["text/plain"])
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Run all cells anew, and write the notebook with their outputs."""
    notebook = read()
    with TemporaryDirectory() as place:
        found = run(notebook, Path(place))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell, outputs in zip(cells, found, strict=True):
        cell |= {"outputs": outputs, "execution_count": None}
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
