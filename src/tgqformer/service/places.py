"""Where the service finds what it needs: a run's folder holds all of it, a bare store names some of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tgqformer.errors import TgqError
from tgqformer.objects import object_address
from tgqformer.service.models import Runtime, check_runs
from tgqformer.store.ledger import Version
from tgqformer.store.neighbours import neighbours_in
from tgqformer.store.rules import Rules, load_rules, rules_beside


@dataclass(frozen=True)
class Places:
    """What to serve.

    store: a folder or a URL. models: folders of models; the one whose version is served is used. runtime: what runs it.
    catalog: where pictures and metadata are. neighbours: tables of neighbours; the one of the served version is used.
    state: a folder where the service keeps what came in over HTTP. rules: of the lists.
    """

    store: str
    state: Path
    models: tuple[Path, ...] = ()
    catalog: Path | None = None
    neighbours: tuple[Path, ...] = ()
    rules: Rules = Rules()  # noqa: RUF009
    runtime: Runtime = "torch"

    def catalog_of(self, version: Version) -> Path | None:
        """Return the catalogue of a version: the one that is given, or the one it was made from, if it is there."""
        known = Path(version.catalog) if version.catalog else None
        return self.catalog or (known if known is not None and known.is_dir() else None)


def find_places(
    where: str,
    *,
    models: Sequence[Path] = (),
    catalog: Path | None = None,
    neighbours: Sequence[Path] = (),
    state: Path | None = None,
    rules: Path | None = None,
    runtime: Runtime = "torch",
) -> Places:
    """Look what `where` holds: the folder of a run, or a store (a folder or a URL); what is given goes first.

    Raises: TgqError where there is no store, where something that was named is not there, or where a model that was
        named is not of the kind that `runtime` runs.
    """
    for path in (*models, *neighbours, *([catalog] if catalog else [])):
        if address := object_address(path):
            raise TgqError(f"a service reads {address} from a disk alone: copy it into a folder, and name that")
        if not path.is_dir():
            raise TgqError(f"there is no folder {path}; check the path")
    for path in models:
        check_runs(path, runtime)
    if "://" in where:
        own = load_rules(rules) if rules is not None else Rules()
        return Places(where, state or Path("tgq-service"), tuple(models), catalog, tuple(neighbours), own, runtime)
    folder = Path(where)
    is_store = (folder / "store.json").is_file()
    store = folder if is_store else folder / "store"
    if not (store / "store.json").is_file():
        raise TgqError(f"{folder} holds no store (no store.json, no store/store.json); {_advice(folder)}")
    run = None if is_store and not (folder.parent / "recipe.yaml").is_file() else store.parent
    return Places(
        str(store),
        state or (run / "service" if run else folder.with_name(f"{folder.name}-service")),
        (*models, *(_models_in(run, runtime) if run else ())),
        catalog or (_catalog_of(run) if run else None),
        (*neighbours, *(neighbours_in(run) if run else ())),
        load_rules(rules) if rules is not None else rules_beside(str(store)),
        runtime,
    )


def _models_in(run: Path, runtime: Runtime) -> list[Path]:
    """Return the saved models in the folder of a run, or the exported forms that lie beside them."""
    if runtime == "torch":
        return sorted(run.glob("models/*/*/model"))
    return sorted(path.parent for path in run.glob("models/*/*/*/onnx.json"))


def _catalog_of(run: Path) -> Path | None:
    """The catalogue as shoppers see it, where a run has drawn noise into it."""
    return next((run / name for name in ("shown", "catalog") if (run / name / "catalog.json").is_file()), None)


def _advice(folder: Path) -> str:
    if (folder / "recipe.yaml").is_file():
        return f"the run is not finished: run `tgq run {folder / 'recipe.yaml'} --to {folder} --until index`"
    return "give the folder of a run (`tgq demo` makes demo/) or of a store (`tgq index`)"
