"""Keys of model families in a recipe: AutoMM's spellings, weights named by a file, and what is not here."""

from pathlib import Path

import pytest

from carryover.train import recipe as recipes


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("model.numerical_mlp.dropout=0.3", "model.numerical_mlp.drop_rate"),
        ("model.numerical_mlp_2.d_token=4", "model.numerical_mlp_2.token_dim"),
        ("model.categorical_mlp.dropout=0.3", "model.categorical_mlp.drop_rate"),
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
