"""Owns how --schema-from becomes the schema that new data follow: of a Model, of a Dataset, or of what a run made."""

from carryover.data import manifest
from carryover.data.follow import Reference
from carryover.data.manifest import DatasetCard
from carryover.ground import storage
from carryover.ground.errors import WrongInput
from carryover.models import card as model_card
from carryover.steps.model_source import open_model


def reference(source: str, *, store: str, grow: bool) -> Reference:
    """Return whose schema data are to follow.

    Args:
        source: URI of a Model or a Dataset (folder, card, artifact), run:KEY or champion:NAME.
        store: URI of the store, where a Model's Dataset is looked for too.

    Raises:
        WrongInput: when there is neither a Model nor a Dataset.
    """
    try:
        if _is_dataset(source):
            return _of_dataset(source, grow=grow)
        return _of_model(source, store=store, grow=grow)
    except WrongInput as error:
        raise WrongInput(f"--schema-from {source}: {error}", trouble=error.trouble) from None


def _is_dataset(source: str) -> bool:
    """Tell a Dataset from a Model by the card that is there."""
    if source.startswith(("run:", "champion:")):
        return False
    if source.endswith(".json"):
        return storage.split(source)[1] == manifest.CARD
    folder = storage.open_store(source)
    if folder.exists(manifest.CARD):
        return True
    if folder.exists(model_card.CARD):
        return False
    raise WrongInput(f"neither a Model ({model_card.CARD}) nor a Dataset ({manifest.CARD}) there")


def _of_dataset(source: str, *, grow: bool) -> Reference:
    folder, name = storage.split(source) if source.endswith(".json") else (source, manifest.CARD)
    card = manifest.read_card(folder, name=name)
    try:
        rows = manifest.load_card(source)
    except WrongInput:
        # Its schema is all that is followed; only statistics of an older version would need rows.
        rows = None
    return Reference("dataset", card.digest, source, card.schema, grow, _left_out(card), rows)


def _of_model(source: str, *, store: str, grow: bool) -> Reference:
    card = open_model(source, store=store).card
    dataset, _ = manifest.find_dataset(card.dataset, store=store)
    if dataset:
        left_out = _left_out(dataset)
    else:
        # What was not used may have been left out: not read again, it can move no row to another split.
        left_out = frozenset(column.name for column in card.schema.columns if column.type == "null")
    return Reference("model", card.digest, source, card.schema, grow, left_out, dataset)


def _left_out(card: DatasetCard) -> frozenset[str]:
    return frozenset(name for name, type in card.settings["column_types"].items() if type == "null")
