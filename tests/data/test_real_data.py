"""The column types of real data, each looked at by eye."""

from pathlib import Path

import pytest

from carryover.data.schema import Schema
from tests.data.support import prepared

PRODUCTS = {
    "id": "categorical",
    "image": "image_path",
    "product_name": "text",
    "description": "text",
    "brand": "categorical",
    "retail_price": "numerical",
    "discounted_price": "numerical",
    "rating": "numerical",
    "advantage": "categorical",
    "subcategory": "categorical",
    "category": "categorical",
    "split": "null",
}
HOUSES = {
    **dict.fromkeys(("image_frontal", "image_kitchen", "image_bedroom", "image_bathroom"), "image_path"),
    "id": "numerical",
    "bedrooms": "categorical",
    "bathrooms": "categorical",
    "area": "numerical",
    "zipcode": "numerical",
    "price": "numerical",
    "split": "null",
}
FASHION = {
    "id": "numerical",
    "image": "image_path",
    "productDisplayName": "text",
    "gender": "categorical",
    "masterCategory": "categorical",
    "subCategory": "categorical",
    "articleType": "categorical",
    "baseColour": "categorical",
    "season": "categorical",
    "year": "categorical",
    "usage": "categorical",
    "split": "null",
}


@pytest.mark.parametrize(
    ("source", "label", "problem", "classes", "types"),
    [
        (
            *("review_domains/review_domains.parquet", "label", "binary", (0, 1)),
            {"sentence": "text", "label": "categorical", "domain": "categorical"},
        ),
        (
            *("stsb/train.parquet", "score", "regression", None),
            {
                "sentence1": "text",
                "sentence2": "text",
                "score": "numerical",
                "genre": "categorical",
                "source": "categorical",
                "year": "categorical",
            },
        ),
        ("mm_products", "category", "multiclass", 7, PRODUCTS),
        ("mm_products", "retail_price", "regression", None, PRODUCTS),
        ("mm_houses", "price", "regression", None, HOUSES),
        ("mm_fashion", "masterCategory", "multiclass", 4, FASHION),
        (
            *("trec/trec.parquet", "label", "multiclass", 6),
            {"sentence": "text", "label": "categorical", "fine_label": "categorical", "split": "null"},
        ),
    ],
)
def test_types(
    shared_data: Path, tmp_path: Path, source: str, label: str, problem: str, classes: object, types: dict[str, str]
) -> None:
    given = {name: type for name, type in types.items() if type == "null"}
    schema: Schema = prepared(tmp_path, shared_data / source, label=label, column_types=given).schema
    assert {column.name: column.type for column in schema.columns} == types
    assert schema.problem_type == problem
    assert (len(schema.classes) if isinstance(classes, int) and schema.classes else schema.classes) == classes


def test_a_missing_label_of_real_data_is_named(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'season' has 1 missing values \(.*fashion.parquet row 326\)"):
        prepared(tmp_path, shared_data / "mm_fashion", label="season")
