"""A BERT small enough for tests, with a tokenizer, as the folder that `from_pretrained` reads without any network."""

from pathlib import Path

COMMON = """the a an and or not is was are be it this that i you we they of to in on for with at by from as but so
 very too good great best love nice excellent wonderful happy perfect bad worst poor terrible awful
 hate waste boring slow broken
 movie film food place phone service product quality price time story acting sound battery red green blue one two three
""".split()
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"-()/$%&*+=#@"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def save_tiny_bert(folder: Path) -> Path:
    """Writes config, seeded random weights (2 layers of width 32) and a WordPiece tokenizer into `folder`.

    Common words have a piece of their own, all others are spelt, so that no English text is unknown.
    """
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    pieces = dict.fromkeys([*SPECIAL, *COMMON, *CHARACTERS, *(f"##{c}" for c in CHARACTERS)])
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, mask_token="[MASK]", model_max_length=128, padding_side="right", **names
    )
    fast.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    return folder
