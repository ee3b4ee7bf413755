"""Owns what `carryover lineage` answers: where a Model or Backbone comes from, drawn where a person asked. No torch."""

from carryover.carry.lineage import Known, ancestry, read_card
from carryover.ground import storage
from carryover.ground.errors import WrongInput
from carryover.report.lineage import lineage_page, lineage_svg
from carryover.steps.model_source import open_model
from carryover.steps.results import resolve_store

_WORDS = ("run:", "champion:")


def lineage(source: str, *, store: str = "", html: str = "", svg: str = "") -> list[Known]:
    """Return the lineage of a Model or Backbone, newest first, and draw it.

    Args:
        source: URI of its folder or card, run:KEY or champion:NAME. Its files need not be there any more.
        store: for run: and champion:; ancestors are looked for there too.
        html, svg: files to write, paths or URIs; "" for none.

    Raises:
        WrongInput: when there is nothing of that name. Ancestors that are gone are no error.
    """
    if not source:
        raise WrongInput("lineage: empty; give the URI of a Model or Backbone, run:KEY or champion:NAME")
    if source.startswith(_WORDS):
        store = resolve_store(store)
        card = open_model(source, store=store).card
    else:
        card = read_card(source)
    found = ancestry(card, stores=[store, _store_of(source)])
    if html:
        _write(html, lineage_page(found, foot="Made by carryover lineage"))
    if svg:
        _write(svg, lineage_svg(found))
    return found


def _store_of(source: str) -> str:
    """Return the store that a folder or card lies in, if it lies in one: <store>/models/<digest>."""
    if source.startswith(_WORDS):
        return ""
    folder = storage.split(source)[0] if source.endswith(".json") else source
    return storage.split(storage.split(folder)[0])[0]


def _write(place: str, text: str) -> None:
    folder, name = storage.split(place)
    if not name:
        raise WrongInput(f"{place}: is no file's name; give another --output", trouble="not-a-model")
    storage.open_store(folder).write(name, text.encode())
