"""Owns how deep a parameter lies: the layers between it and the output, found in a network's own structure.

    head, fusion, final norm    0          what stands behind the blocks of an encoder, and all that has none
    last block                  1
    first block                 n
    embeddings, stem            n + 1      what stands before the first block

A branch that names its `heads` (detectors) has these new, and all between them and its backbone is one more block.
Each encoder of a network counts by itself (both towers of CLIP too). A timm model says its own layers where it can
(`group_matcher`); otherwise a stack is a list of modules of one class, and stages of blocks count block by block.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from carryover.models.layers import Network

# A new layer learns at full rate, wherever its module was registered.
_HEADS = ("head", "classifier", "logit")
# A child is a stage of blocks, and not a block with parts in a list, where its own blocks hold so much of it.
_STAGE = 2 / 3


@dataclass(frozen=True)
class Chain:
    """One encoder from input to output, as names of parameters: what is before its blocks, each block, what follows."""

    before: list[str]
    blocks: list[list[str]]
    behind: list[str]

    def depths(self) -> dict[str, int]:
        """Return name -> depth."""
        last = len(self.blocks)
        found = dict.fromkeys(self.before, last + 1) | dict.fromkeys(self.behind, 0)
        for index, names in enumerate(self.blocks):
            found |= dict.fromkeys(names, last - index)
        return found


def depths(network: nn.Module) -> dict[str, int]:
    """Return the depth of every parameter, by name."""
    parts = network.branch_names if isinstance(network, Network) else ("",)
    found: dict[str, int] = {}
    for part in parts:
        branch = network.get_submodule(part)
        for chain in [_headed(branch, part)] if hasattr(branch, "heads") else _chains(branch, part):
            found |= chain.depths()
    return {name: found.get(name, 0) for name, _ in network.named_parameters()}


def _headed(branch: Any, path: str) -> Chain:
    """Return the chain of a branch whose first `backbones` is an encoder and whose `heads` are what is new."""
    first, *_ = branch.backbones
    inner = _chains(branch.get_submodule(first), _at(path, first))
    chain = inner[0] if len(inner) == 1 else Chain([], [_names(branch.get_submodule(first), _at(path, first))], [])
    heads = [name for head in branch.heads for name in _names(branch.get_submodule(head), _at(path, head))]
    known = {*heads, *chain.before, *(name for names in chain.blocks for name in names)}
    between = [name for name in _names(branch, path) if name not in known]
    return Chain(chain.before, [*chain.blocks, *([between] if between else [])], heads)


def _chains(module: nn.Module, path: str) -> list[Chain]:
    """Return the encoders in a module: none, one, or several side by side."""
    if hasattr(module, "group_matcher"):
        return [_timm_chain(module, path)]
    if isinstance(module, (nn.ModuleList, nn.Sequential)):
        return _stack(module, path)
    holders = {name: found for name, child in _children(module) if (found := _chains(child, _at(path, name)))}
    if not holders:
        return []
    if all(isinstance(module.get_submodule(name), (nn.ModuleList, nn.Sequential)) for name in holders):
        return [_around(module, path, list(holders), _joined([found[0] for found in holders.values()]))]
    if len(holders) == 1 and len(found := next(iter(holders.values()))) == 1:
        return [_around(module, path, list(holders), found[0])]
    return [chain for found in holders.values() for chain in found]


def _stack(module: nn.Module, path: str) -> list[Chain]:
    """Return the chain of a list whose members are blocks or stages of blocks; none where they are anything else."""
    children = list(_children(module))
    least = 2 if isinstance(module, nn.Sequential) else 1
    if len(children) < least or len({type(child) for _, child in children}) > 1:
        return []
    blocks: list[list[str]] = []
    for name, child in children:
        inner = _chains(child, _at(path, name))
        if len(inner) == 1 and _share(child, inner[0], _at(path, name)) >= _STAGE:
            blocks += _closed(inner[0])
        elif isinstance(child, (nn.ModuleList, nn.Sequential)) or not list(_children(child)):
            # Columns' own MLPs, adapters: lists of layers that stand side by side.
            return []
        else:
            blocks.append(_names(child, _at(path, name)))
    return [Chain([], blocks, [])]


def _around(module: nn.Module, path: str, holders: list[str], inner: Chain) -> Chain:
    """Return a chain with what its module has beside the stack, by the order in which it was registered."""
    before = [_at(path, name) for name, _ in module.named_parameters(recurse=False)]
    behind: list[str] = []
    late: list[tuple[str, nn.Module]] = []
    blocks = [list(names) for names in inner.blocks]
    started = False
    for name, child in _children(module):
        started = started or name in holders
        if name in holders or name.startswith(_HEADS):
            continue
        if isinstance(child, nn.ModuleList) and len(child) == len(blocks):
            for names, (index, part) in zip(blocks, child.named_children(), strict=True):
                names += _names(part, _at(path, f"{name}.{index}"))
        elif started:
            late.append((name, child))
        else:
            before += _names(child, _at(path, name))
    # Relative positions are registered behind the layers that they go into (DeBERTa, MPNet), a first norm too (BART).
    positions = any(isinstance(child, nn.Embedding) for _, child in late)
    for name, child in late:
        place = before if positions or "embed" in name else behind
        place += _names(child, _at(path, name))
    return Chain(before + inner.before, blocks, inner.behind + behind)


def _joined(chains: list[Chain]) -> Chain:
    """Return one chain of several lists in a module: one after the other, or the parts of the same blocks (XLM)."""
    if len(chains) > 1 and len({len(chain.blocks) for chain in chains}) == 1 and len(chains[0].blocks) > 1:
        parts = zip(*(chain.blocks for chain in chains), strict=True)
        return Chain([], [[name for names in block for name in names] for block in parts], [])
    return Chain([], [block for chain in chains for block in chain.blocks], [])


def _timm_chain(module: Any, path: str) -> Chain:
    from timm.models import group_parameters

    layers: Any = group_parameters(module, module.group_matcher(coarse=False), reverse=True)
    groups: list[list[str]] = [[] for _ in range(max(layers.values()) + 1)]
    for name, index in layers.items():
        groups[index].append(_at(path, name))
    wide = {_at(path, name) for name, value in module.named_parameters() if value.dim() > 1}
    # Some models count their final norm as a layer.
    behind = groups.pop() if not wide.intersection(groups[-1]) else []
    return Chain(groups[0], groups[1:], behind)


def _closed(chain: Chain) -> list[list[str]]:
    """Return a stage's blocks; what stands around them belongs to the first and the last."""
    blocks = [list(names) for names in chain.blocks]
    blocks[0] += chain.before
    blocks[-1] += chain.behind
    return blocks


def _share(module: nn.Module, chain: Chain, path: str) -> float:
    sizes = {_at(path, name): value.numel() for name, value in module.named_parameters(remove_duplicate=False)}
    return sum(sizes[name] for names in chain.blocks for name in names) / sum(sizes.values())


def _children(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the children that have parameters."""
    return ((name, child) for name, child in module.named_children() if next(child.parameters(), None) is not None)


def _names(module: nn.Module, path: str) -> list[str]:
    return [_at(path, name) for name, _ in module.named_parameters(remove_duplicate=False)]


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
