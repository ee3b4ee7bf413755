"""Owns the page of a Backbone: what was dumped, how the dump compares with what was trained, and how it is opened.

what it is --> its branches: check, how to open it, config, files --> where it comes from
"""

from collections.abc import Mapping

from carryover.carry.lineage import chain
from carryover.models.backbone_card import LEARNED, BackboneCard, DumpedBranch, RoundTrip
from carryover.models.card import ModelFile
from carryover.report import page
from carryover.report.lineage import lineage_short
from carryover.report.page import escape

FILES = 40
# What opens a branch of a family; {} is its folder. Of families in other packages only the files are told.
OPENED: Mapping[str, str] = {
    "clip": """from transformers import AutoImageProcessor, AutoModel, AutoTokenizer
folder = {!r}
model = AutoModel.from_pretrained(folder).eval()""",
    "hf_text": """from transformers import AutoModel, AutoTokenizer
folder = {!r}
tokenizer = AutoTokenizer.from_pretrained(folder)
encoder = AutoModel.from_pretrained(folder).eval()""",
    "mmdet_image": """from mmdet.apis import init_detector
folder = {!r}
detector = init_detector(f"{{folder}}/config.py", f"{{folder}}/model.pth", device="cpu")""",
    "sam": """from transformers import SamModel
folder = {!r}
model = SamModel.from_pretrained(folder).eval()""",
    "timm_image": """import timm
folder = {!r}
encoder = timm.create_model(f"local-dir:{{folder}}", pretrained=True).eval()""",
}
TENSORS = """from safetensors.torch import load_file
folder = {!r}
weights = load_file(f"{{folder}}/model.safetensors")"""


def backbone_page(card: BackboneCard) -> str:
    """Return a Backbone's page as one HTML file."""
    size = sum(file.size for file in card.files.values())
    lead = f"Backbone {card.digest} · {len(card.branches)} branch{'es' * (len(card.branches) > 1)} · {_size(size)}"
    said = [card.check[name] for name in card.names if name in card.check]
    equal = sum(one.equal for one in said)
    tiles = [("branches", len(card.branches)), ("of them the same bits", equal), ("files", len(card.files))]
    tiles.append(("step of the training", card.step))
    body = [page.tiles(tiles)]
    body += [page.section(f"Branch {branch.name}", _branch(card, branch)) for branch in card.branches]
    origin = page.card("Backbone", page.facts(_origin(card)), wide=True)
    body.append(page.section("Where it comes from", page.cards([origin])))
    body.append(lineage_short(chain(card), uri=card.at))
    return page.page("Backbone", lead, body, foot="Made by carryover dump-backbone")


def _branch(card: BackboneCard, branch: DumpedBranch) -> str:
    check, folder = card.check.get(branch.name), f"{card.at}/{branch.name}"
    facts = [("family", branch.family), ("read", ", ".join(branch.columns)), ("folder", folder)]
    parts = [page.card("What it is", page.facts(facts))]
    if check is not None:
        parts.append(page.card("Opened again and compared", page.facts(_compared(check))))
    code = OPENED.get(branch.family, TENSORS).format(folder)
    words = page.note("On a machine that has the folder; of an object store it is copied there first.")
    parts.append(page.card("How to open it", f"<pre><code>{escape(code)}</code></pre>{words}", wide=True))
    config = page.facts((name, value) for name, value in sorted(branch.config.items()))
    inside = page.opens("<b>Config</b>", f"<div>{config}</div>") if branch.config else ""
    files = _files(card.files_of(branch.name))
    inside += page.opens("<b>Files</b>", f"<div>{files}</div>", open=True)
    return page.cards([*parts, page.card("Inside", inside, wide=True)])


def _compared(check: RoundTrip) -> list[tuple[str, object]]:
    same = "the same bits" if check.equal else f"differ by at most {check.max_difference:.3g}"
    found: list[tuple[str, object]] = [
        ("weights", "the same bits, each of them" if not check.merged else "adapters put into them"),
        ("features of made-up rows", same),
        ("largest feature", f"{check.largest:.4g}"),
    ]
    if check.rtol:
        found.append(("allowed", f"{check.rtol:g} of the largest"))
    return [*found, ("merged", check.merged or "nothing")]


def _files(files: Mapping[str, ModelFile]) -> str:
    rows = [
        (escape(name), "learned beside the library's part" if name == LEARNED else "", _size(one.size), one.blake3[:16])
        for name, one in sorted(files.items())[:FILES]
    ]
    more = page.note(f"and {len(files) - FILES:,} more") if len(files) > FILES else ""
    return page.table(("file", "", "size", "blake3"), rows, numeric=2) + more


def _origin(card: BackboneCard) -> list[tuple[str, object]]:
    model, checkpoint = card.model or {}, card.checkpoint or {}
    found = [
        ("digest", card.digest),
        ("at", card.at),
        ("Model", model.get("uri", "")),
        ("checkpoint", checkpoint.get("uri", "")),
        ("run", card.run_key),
        ("step", card.step),
        ("trained on", card.dataset.get("uri", "")),
        *((f"{name}, version", value) for name, value in card.versions.items()),
    ]
    return [(name, value) for name, value in found if value not in ("", None)]


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
