"""Keys of model families in a recipe: AutoMM's spellings, weights named by a file, and what is not here."""

from pathlib import Path

import pytest

from carryover.ground.errors import WrongInput
from carryover.train import recipe as recipes


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("model.numerical_mlp.dropout=0.3", "model.numerical_mlp.drop_rate"),
        ("model.numerical_mlp_2.d_token=4", "model.numerical_mlp_2.token_dim"),
        ("model.categorical_mlp.dropout=0.3", "model.categorical_mlp.drop_rate"),
        ("model.clip.max_img_num_per_col=3", "model.clip.max_image_num_per_column"),
        ("model.fusion_mlp.aux_loss_weight=0.3", "model.fusion_mlp.weight"),
        ("model.ft_transformer.n_blocks=2", "model.ft_transformer.num_blocks"),
        ("model.ft_transformer.ffn_d_hidden=2", "model.ft_transformer.ffn_hidden_size"),
        ("model.hf_text.dropout=0.3", "model.hf_text.dropout"),
        ("model.names=[hf_text]", "model.names"),
    ],
)
def test_spellings_of_automm(theirs: str, ours: str) -> None:
    assert list(recipes.given("", [theirs])) == [ours]
    assert list(recipes.given(theirs.replace("=", ": "))) == [ours]


def test_weights_in_a_file_count_by_its_bytes(tmp_path: Path) -> None:
    def identity(name: str) -> object:
        place = f"model.ft_transformer.checkpoint_name={tmp_path / name}"
        return recipes.identity(recipes.make(recipes.given("", [place])))

    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"one")
    (tmp_path / "c").write_bytes(b"two")
    assert identity("a") == identity("b")
    assert identity("a") != identity("c")
    assert str(tmp_path) not in str(identity("a"))


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("model.document_transformer.checkpoint_name=x", "images of documents are out of scope; 'timm_image' reads"),
        ("model.names=[ner_text]", "'ner_text': marking names in a text is out of scope"),
        ("model.names=[hf_text, hf_textt]", "'hf_textt' is no model family .* did you mean 'hf_text'"),
        ("model.ner_text.max_text_len=9", "marking names in a text is out of scope"),
        ("model.t_few.length_norm=1", "few-shot T-Few is out of scope; 'hf_text' with"),
        ("data.column_features_pooling_mode=mean", "is of few-shot learning, which is out of scope"),
        ("data.templates.turn_on=true", "few-shot T-Few is out of scope"),
        ("data.document.missing_value_strategy=skip", "images of documents are out of scope"),
        ("model.ft_transformer.merge=concat", "columns are always concatenated; leave it out"),
        ("model.numerical_mlp.data_types=[categorical]", "what it reads is fixed; --column-type"),
    ],
)
def test_what_is_not_here_says_why(key: str, words: str) -> None:
    with pytest.raises(WrongInput, match=f"^{key.partition('=')[0]}: {words}"):
        recipes.make(recipes.given("", [key]))
