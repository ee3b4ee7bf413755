"""What training changes in a text, and what is mended in every text: functions of the row's key and of nothing else."""

import numpy as np
import pytest

from carryover.data.order import mix
from carryover.ground.errors import WrongInput
from carryover.models.hf_text import HFTextConfig
from carryover.models.text_augment import OPERATIONS, PUNCTUATION, augmentation
from carryover.models.text_cleaning import clean

WORDS = [f"word{number}" for number in range(20)]
KEYS = mix(0, 0, np.arange(400))


def changed(*types: str, scale: float = 0.0, least: int = 1, text: str = " ".join(WORDS)) -> list[str]:
    change = augmentation(types or None, max_scale=scale, detect_length=least)
    return change([text] * len(KEYS), KEYS, 0)


def test_a_text_is_a_function_of_its_key_and_column():
    change = augmentation(None, max_scale=0.5, detect_length=1)
    texts = [" ".join(WORDS)] * len(KEYS)
    whole = change(texts, KEYS, 0)
    apart = [change(texts[:1], KEYS[row : row + 1], 0)[0] for row in reversed(range(len(KEYS)))]
    assert whole == apart[::-1]
    assert len(set(whole)) > len(KEYS) / 2
    assert sum(one != other for one, other in zip(whole, change(texts, KEYS, 1), strict=True)) > len(KEYS) / 2


def test_every_operation_is_drawn_as_often_and_half_or_less_of_the_words_change():
    kinds = {"same": 0, "swap": 0, "delete": 0, "punctuation": 0}
    for text in changed(scale=0.25):
        words = text.split()
        bare = [word for word in words if word not in PUNCTUATION]
        assert set(bare) <= set(WORDS)
        assert len(WORDS) - 5 <= len(bare) <= len(words) <= len(WORDS) + 5
        if words == WORDS:
            kinds["same"] += 1
        elif sorted(words) == sorted(WORDS):
            kinds["swap"] += 1
        else:
            kinds["delete" if len(words) < len(WORDS) else "punctuation"] += 1
            assert bare == [word for word in WORDS if word in bare]
    # Four equally probable ones: 100 each of 400, with a standard deviation of 9.
    assert all(60 < count < 140 for count in kinds.values()), kinds


@pytest.mark.parametrize(("name", "count"), [("random_swap", 20), ("random_delete", 15), ("insert_punc", 25)])
def test_a_given_share_is_the_share(name, count):
    lengths = {len(text.split()) for text in changed(f"{name}(0.25)")}
    assert lengths == {20, count}


def test_blanks_stay_and_a_text_never_becomes_empty():
    for text in changed("random_swap(0.9)", text="one\n\ntwo  three\tfour"):
        assert [character for character in text if character.isspace()] == list("\n\n  \t")
    assert all(text.split() for text in changed("random_delete(1)", text="one two"))
    assert set(changed("random_delete(1)", text="one")) == {"one"}
    assert set(changed("random_delete(1)", text="")) == {""}


def test_short_texts_are_left_alone():
    assert set(changed(scale=0.5, least=21)) == {" ".join(WORDS)}
    assert len(set(changed(scale=0.5, least=20))) > 1
    assert not augmentation(None, max_scale=0.0, detect_length=1).operations


@pytest.mark.parametrize(
    ("types", "words"),
    [
        (["random_swop"], "did you mean 'random_swap'"),
        (["syn_replacement(0.1)"], "needs a dictionary of synonyms"),
        (["random_swap(2)"], "a share of words above 0 and up to 1"),
        (["random_swap(a lot)"], "a share of words above 0 and up to 1"),
        (["random_delete"], r"write 'random_delete\(0.1\)'"),
    ],
)
def test_types_that_are_not_possible(types, words):
    with pytest.raises(WrongInput, match=words):
        HFTextConfig(text_train_augment_types=tuple(types), text_trivial_aug_maxscale=0.0)


def test_types_as_automm_spells_them():
    for spelling in ("random_swap(0.05)", "random_swap( 0.05, )"):
        (operation,) = augmentation([spelling], max_scale=0.1, detect_length=1).operations
        assert (operation.name, operation.share) == ("random_swap", 0.05)
    assert [operation.name for operation in augmentation(None, max_scale=0.1, detect_length=1).operations] == list(
        OPERATIONS
    )
    assert HFTextConfig(text_train_augment_types=()) == HFTextConfig()


def test_text_is_mended_and_written_in_ascii():
    wrong = ["donâ€™t", "cafÃ©", "“quoted” — naïve", "中文", "plain", "", None, "I\\u2019m"]
    assert clean(wrong) == ["don't", "cafe", '"quoted" - naive', "ZhongWen", "plain", "", None, "I\\u2019m"]
