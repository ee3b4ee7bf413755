"""Owns a Model's answers to rows in memory: the pass that evaluate makes, over rows that need no label.

    rows --arrow_of--> columns the Model reads --stored types, images for names--> <scratch>/rows.arrow
    rows.arrow --MicroBatches, validate.predict--> logits --Task--> probabilities, or numbers in the label's unit

The same batches through the same code give the same bits as evaluate's predictions.parquet.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from carryover.ground import storage
from carryover.ground.config import check
from carryover.ground.errors import WrongInput

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from carryover.models.card import ModelCard
    from carryover.train.scoring import Scorer


def load(uri: str, *, store: str) -> "Scorer":
    """Return a Model ready for use, on the GPU where there is one.

    Raises:
        WrongInput: for a Model whose answers are pictures.
        Damaged: when its bytes are not those that were written.
    """
    from carryover.models.export import find_model
    from carryover.train.scoring import Scorer

    found = find_model(uri, store=store)
    problem = found.card.schema.problem_type
    if problem in ("object_detection", "semantic_segmentation"):
        raise WrongInput(
            f"predict: answers to {problem} are boxes or masks of pictures; prepare the pictures and use evaluate(), "
            "whose predictions have them",
            trouble="not-supported",
        )
    return Scorer.of(found, batch_size=64)


def values(scorer: "Scorer", rows: Any, *, batch_size: int) -> "np.ndarray":
    """Return what a Model says of rows: probabilities float64[N, C], or numbers float64[N].

    Raises:
        WrongInput: names all columns that the Model reads and the rows lack, or a value that it can't read.
    """
    from carryover.data.loader import MicroBatches, evaluation_micros
    from carryover.data.loader import load as batches
    from carryover.data.rows import Rows, write_arrow
    from carryover.train.validate import predict

    check(batch_size >= 1, "batch_size", batch_size, "1 or more")
    table = read_by(scorer.found.card, rows)
    with TemporaryDirectory(prefix="carryover-predict-") as folder:
        split = Rows.open(write_arrow(Path(folder) / "rows.arrow", table.schema, [table]))
        features = scorer.model.preprocessing
        targets = scorer.kind.unread(scorer.task)
        prepared = MicroBatches(split, features, targets, training=False, by_length=features.padded)
        micros = evaluation_micros(rows=len(split), micro_size=batch_size, rank=0, world=1)
        said = predict(
            scorer.model.network,
            batches(micros, prepared, workers=0),
            scorer.task,
            device=scorer.device,
            dtype=next(scorer.model.network.parameters()).dtype,
        )
    return scorer.task.predictions(said.in_row_order().logits)


def read_by(card: "ModelCard", rows: Any) -> "pa.Table":
    """Return the columns that a Model reads, as prepare-data would store their values."""
    import pyarrow as pa

    from carryover.api.tables import arrow_of
    from carryover.data.values import typed_array
    from carryover.steps.fit import used_columns

    table, wanted = arrow_of(rows, what="rows"), used_columns(card)
    missing = [name for name in wanted if name not in table.column_names]
    if missing:
        lacks, there = ", ".join(missing), ", ".join(table.column_names)
        raise WrongInput(
            f"rows: columns missing that the model reads: {lacks}; there are {there}", trouble="does-not-fit-model"
        )
    typed = {name: typed_array(table.column(name).combine_chunks()) for name in wanted}
    nested = [name for name, (_, kinds) in typed.items() if "nested" in kinds]
    if nested:
        words = f"rows: column '{nested[0]}' has lists or records; the model reads one value a row"
        raise WrongInput(words, trouble="does-not-fit-model")
    found = pa.table({name: array for name, (array, _) in typed.items()})
    return _with_images(card, found)


def _with_images(card: "ModelCard", table: "pa.Table") -> "pa.Table":
    """Put the pictures in the place of their names, which are looked for in the folder of now."""
    import pyarrow as pa

    from carryover.data.embed import Embedder

    known = {column.name: column.type for column in card.schema.columns}
    named = [
        field.name for field in table.schema if known.get(field.name) == "image_path" and pa.types.is_string(field.type)
    ]
    if not named:
        return table
    with Embedder(named) as embedder:
        pieces = list(embedder.pieces(table, storage.normal(".")))
        embedder.say()
    return pa.concat_tables(pieces) if pieces else table
