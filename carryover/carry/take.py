"""Owns what a rank does with a source: its tensors are read, matched with a new network, and put into it.

    a folder that the network was built from   its library has read it; here is only said what that was
    a folder beside it, a Backbone's tables    names within the branch
    weights of all branches (Model, AutoMM)    branch by branch, by name; a bare state dict by its prefixes

Heads stay new where the classes are others, tables where the columns are, and token embeddings go by token.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from carryover.carry import tensors as reading
from carryover.carry.foreign import Part, Source
from carryover.carry.match import Fate, Match, Pair, Rows, Shapes, find_pairs, match, plain, put
from carryover.carry.transfer import paired
from carryover.ground.errors import WrongInput
from carryover.models import mmdet_config, mmdet_source
from carryover.models.assembly import Assembly, Branch, Preprocessing
from carryover.models.backbone_card import LEARNED
from carryover.models.export import find_model, load_model
from carryover.models.family import dumped_parts
from carryover.models.peft import merged
from carryover.models.registry import FAMILIES
from carryover.models.table import CATEGORIES, NUMBERS
from carryover.models.text_ids import TOKENIZER
from carryover.tasks.task import Task, restore_task

# Family -> file of its preprocessing -> starts of names whose rows or inputs are columns.
_BY_COLUMN: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "categorical_mlp": {CATEGORIES: ("column_embeddings.", "column_mlps.", "aggregator_mlp.0.")},
    "ft_transformer": {
        NUMBERS: ("numerical_feature_tokenizer.",),
        CATEGORIES: ("categorical_feature_tokenizer.",),
    },
    "numerical_mlp": {NUMBERS: ("mlp.0.", "numerical_feature_tokenizer.")},
}
# What transformers calls the halves of a CLIP model -> where they are in the branch.
_TOWERS = {
    "vision_model.": "images.encoder.vision_model.",
    "visual_projection.": "images.encoder.projection.",
    "text_model.": "texts.text_model.",
    "text_projection.": "texts.projection.",
}


def take(network: nn.Module, assembly: Assembly, preprocessing: Preprocessing, task: Task, source: Source) -> Match:
    """Put into a new network what a source has for it, and say what became of every tensor.

    Args:
        network: without adapters; its pretrained parts have the weights of their own checkpoints.

    Raises:
        WrongInput: when weights can't be read, or adapters in them would be lost.
    """
    parts = paired([branch.name for branch in assembly.branches], source)
    fresh = _columns(assembly, preprocessing, parts, source)
    tables = _tokens(network, assembly, preprocessing, parts, source)
    if source.weights:
        return _from_whole(network, assembly, task, source, parts, tables=tables, fresh=fresh)
    target, found = _shapes(network.state_dict()), Match()
    for branch in assembly.branches:
        own = {name: shape for name, shape in target.items() if name.startswith(f"{branch.name}.")}
        part = parts.get(branch.name)
        if part is None:
            found += match({}, own, ())
        else:
            found += _from_folder(network, branch, part, source, own, tables=tables, fresh=fresh)
    starts = tuple(f"{branch.name}." for branch in assembly.branches)
    found += match({}, {name: shape for name, shape in target.items() if not name.startswith(starts)}, ())
    return found + _unused(source, parts)


def heads(assembly: Assembly) -> tuple[str, ...]:
    """Return the starts of the names of a network's heads: what a new task has new."""
    parts = [*assembly.branches, *([assembly.fusion] if assembly.fusion else [])]
    kinds = {part.family: getattr(FAMILIES.load(part.family), "heads", ("head.",)) for part in parts}
    return tuple(f"{part.name}.{start}" for part in parts for start in kinds[part.family])


def _of_classes(network: nn.Module, assembly: Assembly) -> list[str]:
    """Return names, or starts of names, of all that has a place for each class."""
    starts = list(heads(replace(assembly, branches=())))
    for branch in assembly.branches:
        module: Any = network.get_submodule(branch.name)
        own = module.of_classes() if hasattr(module, "of_classes") else ["head."]
        starts += [f"{branch.name}.{name}" for name in own]
    return starts


def _from_whole(
    network: nn.Module,
    assembly: Assembly,
    task: Task,
    source: Source,
    parts: Mapping[str, Part],
    *,
    tables: Mapping[str, Rows],
    fresh: dict[str, str],
) -> Match:
    """Take from weights of all branches in one."""
    target = _shapes(network.state_dict())
    if source.form == "model":
        tensors, other = _of_model(source)
        if _meaning(task) != _meaning(other):
            fresh |= dict.fromkeys(_of_classes(network, assembly), "the label or its classes are others")
        pairs = [Pair(f"{part.name}.", f"{name}.") for name, part in parts.items()]
        if assembly.fusion and [*parts] == [part.name for part in source.parts] == list(_names(assembly)):
            pairs.append(Pair(f"{assembly.fusion.name}.", f"{assembly.fusion.name}."))
    else:
        tensors = reading.read_file(source.path(source.weights))
        if source.alpha is not None:
            tensors = reading.merged(tensors, source.alpha)
        pairs = find_pairs(_shapes(tensors), target, _roots(network, assembly))
    found = _with_shared(match(_shapes(tensors), target, pairs, tables=tables, fresh=fresh), network)
    _keep_adapters(found, source)
    put(found, tensors, network)
    _begin_heads(network, assembly, found)
    return found


def _with_shared(found: Match, network: nn.Module) -> Match:
    """Return the same with what has two names in the network loaded by both, where it is by one."""
    ids = {name: id(value) for name, value in network.named_parameters(remove_duplicate=False)}
    loaded = {ids.get(fate.name): fate.source for fate in found.loaded}
    shared = [fate for fate in found.new if not fate.source and ids.get(fate.name, 0) in loaded]
    more = tuple(Fate(fate.name, fate.count, loaded[ids[fate.name]]) for fate in shared)
    return replace(found, loaded=found.loaded + more, new=tuple(fate for fate in found.new if fate not in shared))


def _begin_heads(network: nn.Module, assembly: Assembly, found: Match) -> None:
    """Start new heads that begin from their backbone anew, now that its weights are there."""
    new = {fate.name for fate in found.new}
    for branch in assembly.branches:
        module: Any = network.get_submodule(branch.name)
        own = (f"{branch.name}.head.{name}" for name in getattr(module, "head", nn.Identity()).state_dict())
        if hasattr(module, "begin_head") and new.issuperset(own):
            module.begin_head()


def _from_folder(
    network: nn.Module,
    branch: Branch,
    part: Part,
    source: Source,
    target: Shapes,
    *,
    tables: Mapping[str, Rows],
    fresh: Mapping[str, str],
) -> Match:
    """Take one branch from the folder of one part."""
    folder, start = source.path(part.folder), f"{branch.name}."
    tensors = reading.read_folder(folder)
    shapes, module = _shapes(tensors), network.get_submodule(branch.name)
    learned = _learned(folder, start, target)
    below = tuple(f"{start}{path}." for path in dumped_parts(module))
    if getattr(branch.config, "pretrained", False) and branch.config.checkpoint_name == str(folder):
        found = _opened(shapes, {name: shape for name, shape in target.items() if name.startswith(below)})
    else:
        if part.family == "clip":
            pairs = [Pair(old, start + new) for old, new in _TOWERS.items()]
        else:
            pairs = find_pairs(shapes, target, [*below, start]) or [Pair("", start)]
        body = {name: shape for name, shape in target.items() if name not in learned}
        fresh = {**fresh, **_other_classes(module, folder, start)}
        found = _with_shared(match(shapes, body, pairs, tables=tables, fresh=fresh), network)
        put(found, tensors, network)
    _keep_adapters(found, source)
    extra = match(_shapes(learned), {name: target[name] for name in learned}, [Pair("", "")])
    put(extra, learned, network)
    known = {fate.name for fate in (*found.loaded, *found.resized, *found.new, *extra.loaded, *extra.new)}
    rest = match({}, {name: shape for name, shape in target.items() if name not in known}, ())
    return found.within(part.name) + extra + rest


def _other_classes(module: Any, folder: Path, start: str) -> dict[str, str]:
    """Return the tensors of a detector that stay new because the folder's classes are others -> why."""
    if not hasattr(module, "of_classes") or not (folder / mmdet_source.CONFIG).is_file():
        return {}
    theirs = mmdet_config.classes_of(mmdet_source.open_config(str(folder)))
    if not theirs or theirs == mmdet_config.classes_of(module.config):
        return {}
    return {f"{start}{name}": "its classes are others" for name in module.of_classes()}


def _learned(folder: Path, start: str, target: Shapes) -> dict[str, Tensor]:
    """Return what a Backbone's branch has beside its pretrained part, by the network's names."""
    path = folder / LEARNED
    found = reading.read_file(path) if path.is_file() else {}
    return {start + name: value for name, value in found.items() if start + name in target}


def _opened(source: Shapes, target: Shapes) -> Match:
    """Say what a library has taken: all of its part, since it refuses weights that lack any.

    It may have renamed tensors, and fitted tables of positions to another size.
    """
    pairs = find_pairs(source, target, _common_starts(target))
    found = match(source, target, pairs)
    fitted = tuple(Fate(f.name, f.count, f.source, "fitted by its library") for f in found.new if f.source)
    renamed = tuple(Fate(f.name, f.count) for f in found.new if not f.source)
    used, gone = {f.source for f in fitted}, Counter(f.count for f in renamed)
    ignored: list[Fate] = []
    for fate in found.ignored:
        if fate.name in used:
            continue
        if gone[fate.count]:
            gone[fate.count] -= 1
        else:
            ignored.append(fate)
    return Match(found.loaded + renamed, fitted, (), tuple(ignored))


def _common_starts(names: Shapes) -> list[str]:
    """Return the parts of the network that names are below: "hf_text.encoder." for all of an encoder."""
    return sorted({".".join(name.split(".")[:2]) + "." for name in names})


def _of_model(source: Source) -> tuple[dict[str, Tensor], Task]:
    """Return a Model's weights, adapters merged, and its task."""
    found = find_model(source.folder)
    task = restore_task(found.files())
    model = load_model(found, num_outputs=task.num_outputs)
    network = merged(model.network) if model.assembly.adaptation else model.network
    return dict(network.state_dict()), task


def _meaning(task: Task) -> object:
    return task.problem_type, task.label, task.classes


def _names(assembly: Assembly) -> tuple[str, ...]:
    return tuple(branch.name for branch in assembly.branches)


def _roots(network: nn.Module, assembly: Assembly) -> list[str]:
    """Return where a prefix of a state dict may lead: into a backbone, to a branch, to what joins them, or to all."""
    roots: list[str] = []
    for name in _names(assembly):
        roots += [f"{name}.{path}." for path in dumped_parts(network.get_submodule(name))]
        roots.append(f"{name}.")
    return [*roots, *([f"{assembly.fusion.name}."] if assembly.fusion else []), ""]


def _tokens(
    network: nn.Module, assembly: Assembly, preprocessing: Preprocessing, parts: Mapping[str, Part], source: Source
) -> dict[str, Rows]:
    """Return name of a token table -> its tokens there and here, where both are known."""
    found: dict[str, Rows] = {}
    for branch in assembly.branches:
        part, encoder = parts.get(branch.name), getattr(network.get_submodule(branch.name), "encoder", None)
        file = source.path(f"{part.folder}/tokenizer.json") if part and part.folder else None
        own: Any = preprocessing.branches[branch.name]
        mine = getattr(own, "tokenizer_files", {}).get(TOKENIZER)
        if file is None or not file.is_file() or mine is None or not hasattr(encoder, "get_input_embeddings"):
            continue
        table: Any = encoder.get_input_embeddings()  # pyright: ignore[reportOptionalMemberAccess]
        named = network.named_parameters(remove_duplicate=False)
        rows = Rows(reading.vocabulary(file.read_bytes()), reading.vocabulary(mine))
        found |= {name: rows for name, value in named if value is table.weight}
    return found


def _columns(
    assembly: Assembly, preprocessing: Preprocessing, parts: Mapping[str, Part], source: Source
) -> dict[str, str]:
    """Return starts of names that stay new because the columns they belong to are others -> why."""
    fresh: dict[str, str] = {}
    for branch in assembly.branches:
        part, files = parts.get(branch.name), preprocessing.branches[branch.name].files()
        for file, starts in _BY_COLUMN.get(branch.family, {}).items():
            if part is None or file not in files:
                continue
            there = source.path(f"preprocessors/{part.name}" if source.form == "model" else part.name) / file
            if not there.is_file() or _same_columns(there.read_bytes(), files[file]):
                why = "" if there.is_file() else "its columns are not known there"
            else:
                why = "the columns or their categories are others"
            fresh |= {f"{branch.name}.{start}": why for start in starts if why}
    return fresh


def _same_columns(one: bytes, other: bytes) -> bool:
    import json

    facts = [{k: v for k, v in json.loads(data).items() if k in ("columns", "values")} for data in (one, other)]
    return facts[0] == facts[1]


def _keep_adapters(found: Match, source: Source) -> None:
    """Raise WrongInput where adapters would be dropped, which would leave weights that nobody trained."""
    lost = [fate.name for fate in found.ignored if reading.is_adapter(plain(fate.name))]
    if lost:
        raise WrongInput(
            f"{source.uri}: holds {len(lost)} tensors of adapters (e.g. {lost[0]}), which would be lost; save it with "
            "the adapters merged (peft: merge_and_unload), or give the folder that says how much they count"
        )


def _unused(source: Source, parts: Mapping[str, Part]) -> Match:
    """Return the tensors of the parts that no branch starts from."""
    used, ignored = {part.name for part in parts.values()}, []
    for part in source.parts:
        if part.name not in used and part.weights:
            read = reading.read_folder(source.path(part.folder))
            why = "no branch of the new task is of its family"
            ignored += [Fate(f"{part.name}/{name}", value.numel(), why=why) for name, value in read.items()]
    return Match(ignored=tuple(ignored))


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors.items()}
