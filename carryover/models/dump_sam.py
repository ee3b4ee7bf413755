"""Owns how a SAM model is dumped, as a folder that transformers opens alone.

    folder/config.json, model.safetensors     SamModel.from_pretrained(folder), AutoModel too
           processor_config.json              SamProcessor, AutoProcessor: the size and norm that it was trained with
           preprocessor_config.json           SamImageProcessor, AutoImageProcessor: the same

SAM's own mask tokens and prompts are in it as they were; those of the classes are a head, and stay behind.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from carryover.models.hf_source import quiet

if TYPE_CHECKING:
    from carryover.models.sam_pixels import PicturesAndMasks


def write(model: Any, read: "PicturesAndMasks", folder: Path) -> None:
    """Write a SamModel and what prepares its pictures."""
    from transformers import SamImageProcessor, SamProcessor

    size, low = read.size, 4 * model.config.prompt_encoder_config.image_embedding_size
    images: dict[str, Any] = {
        "image_mean": list(read.mean),
        "image_std": list(read.std),
        "size": {"longest_edge": size},
        "pad_size": {"height": size, "width": size},
        "mask_size": {"longest_edge": low},
        "mask_pad_size": {"height": low, "width": low},
    }
    processor = SamImageProcessor(**images)
    with quiet():
        model.save_pretrained(folder)
        SamProcessor(processor).save_pretrained(folder)
        # Older readers look for it in a file of its own.
        processor.save_pretrained(folder)
