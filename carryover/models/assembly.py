"""Owns what a model is made of: the recipe section `model`, the choice from the columns, and putting it together.

    model.names, schema --choose--> Assembly --build_preprocessing--> Preprocessing --build_network--> Network
                                    (no torch)  (tokenizers)  arrays "<branch>/<feature>"     Outputs(logits, auxiliary)

An instance name is a family's name or starts with one ("hf_text_2"); it names the recipe section, the arrays, the files
of the Model and the parameters, so it never changes once a model exists.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from carryover.data.config import DataConfig
from carryover.data.schema import Schema
from carryover.ground import config as configs
from carryover.ground.config import key
from carryover.ground.digests import canonical
from carryover.ground.errors import WrongInput
from carryover.models import columns, peft, read_rows
from carryover.models.family import Preprocessor, fuses, has_backbone
from carryover.models.peft import Adaptation
from carryover.models.registry import FAMILIES, KEY_ALIASES, REFUSED, check_dense, default_names

if TYPE_CHECKING:
    from torch import nn

    from carryover.models.layers import Network

PREPROCESSORS, TOKENIZER = "preprocessors/", "tokenizer/"
# A branch's name can't hold a dot.
TEXTS = f"{PREPROCESSORS}texts.json"
_AS_THEY_ARE = DataConfig()


def family_of(instance: str) -> str:
    """Return the family whose name an instance's name is or starts with; the longest one where several fit.

    Raises:
        WrongInput: when there is none.
    """
    known = FAMILIES.names()
    fitting = [name for name in known if instance == name or instance.startswith(f"{name}_")]
    if not fitting and instance in REFUSED:
        raise WrongInput(f"model.names: '{instance}': {REFUSED[instance]}", trouble="not-supported")
    if not fitting or not instance.isidentifier():
        near = configs.nearest(instance, known)
        meant = f"; did you mean '{near}'?" if near else "."
        raise WrongInput(
            f"model.names: '{instance}' is no model family and starts with none (as 'hf_text_2' does){meant} "
            f"Known: {', '.join(known)}",
            trouble="unknown-key",
        )
    return max(fitting, key=len)


def canonical_key(name: str) -> str:
    """Return our spelling of a dotted key `model.<instance>.<key>`; any other name as it is."""
    section, _, word = name.rpartition(".")
    instance = section.removeprefix("model.")
    if section == instance or "." in instance:
        return name
    family = next((known for known in KEY_ALIASES if instance == known or instance.startswith(f"{known}_")), "")
    return f"{section}.{KEY_ALIASES.get(family, {}).get(word, word)}"


def config_class(instances: tuple[str, ...] = ()) -> type:
    """Return the dataclass of the recipe section `model`: `names`, and one section a family.

    With custom instance names it is a subclass of `ModelConfig` that has a section for each of them too.
    """
    known = FAMILIES.names()
    fields: list[Any] = []
    if not instances:
        help = "families or instances to use; empty: chosen from the columns"
        fields.append(("names", tuple[str, ...], key((), help=help, allowed=", ".join(known))))
    for name in instances or known:
        kind = FAMILIES.load(family_of(name)).Config
        fields.append((name, kind, dataclasses.field(default_factory=kind)))
    bases = (ModelConfig,) if instances else ()
    made = dataclasses.make_dataclass("ModelConfig", fields, bases=bases, frozen=True)
    made.__module__ = __name__
    return made


if TYPE_CHECKING:

    @dataclass(frozen=True)
    class ModelConfig:
        """Recipe section `model`; beside `names` it has a section for every registered family."""

        names: tuple[str, ...] = ()

        def __getattr__(self, section: str) -> Any: ...
else:
    # A recipe's keys are known from its classes, and these come from the list of families: one line there adds them.
    ModelConfig = config_class()


def instances_in(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the custom instance names that a raw `model` section uses, in `names` or as sections.

    A section whose name starts with no family is left to `config.build`, which names the nearest known key.
    """
    named = values.get("names") or ()
    if not isinstance(named, (list, tuple)):
        named = ()
    found = [*map(str, named), *(str(section) for section in values if isinstance(values[section], Mapping))]
    known = FAMILIES.names()
    custom = [name for name in found if name not in known and any(name.startswith(f"{family}_") for family in known)]
    return tuple(sorted({name for name in custom if name.isidentifier()}))


def build_config(values: Mapping[str, Any], *, path: str = "model") -> ModelConfig:
    """Return the `model` section's config object from nested plain values; raises WrongInput."""
    config = configs.build(config_class(instances_in(values)), values, path=path)
    for name in config.names:
        family_of(name)
    for section in instances_in(values):
        if section not in config.names:
            raise WrongInput(
                f"{path}.{section}: this section is not used; {path}.names must hold '{section}'", trouble="wrong-value"
            )
    return config


@dataclass(frozen=True)
class Branch:
    """One instance of a family: its config, and the names of the columns it reads."""

    name: str
    family: str
    config: Any
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Assembly:
    """What a model is made of.

    Attributes:
        branches: at least one, in the order of `model.names`.
        fusion: joins the branches (columns is then ()); None for a single branch.
        unused: feature columns that no branch reads.
        adaptation: what trains of the branches' pretrained parts, and their adapters; None where all does.
    """

    branches: tuple[Branch, ...]
    fusion: Branch | None
    unused: tuple[str, ...]
    adaptation: Adaptation | None = None

    def portable(self) -> "Assembly":
        """Return what a Model keeps: configs name no place on this machine. Enough to restore, not to start anew."""
        branches = (replace(b, config=FAMILIES.load(b.family).portable(b.config)) for b in self.branches)
        return replace(self, branches=tuple(branches))

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON; `assembly_from_json` gives it back."""

        def plain(part: Branch) -> dict[str, Any]:
            flat = configs.flatten(part.config)
            return {"name": part.name, "family": part.family, "config": flat, "columns": list(part.columns)}

        fusion = None if self.fusion is None else plain(self.fusion)
        whole = {"branches": [plain(part) for part in self.branches], "fusion": fusion, "unused": list(self.unused)}
        return whole if self.adaptation is None else {**whole, "adaptation": configs.flatten(self.adaptation)}


def assembly_from_json(value: Mapping[str, Any]) -> Assembly:
    """Return the Assembly that `to_json` described; raises WrongInput for a family that is not installed."""

    def branch(part: Mapping[str, Any]) -> Branch:
        kind = FAMILIES.load(part["family"]).Config
        config = configs.build(kind, configs.nest(part["config"]), path=f"model.{part['name']}")
        return Branch(part["name"], part["family"], config, tuple(part["columns"]))

    fusion = None if value["fusion"] is None else branch(value["fusion"])
    adaptation = None
    if "adaptation" in value:
        adaptation = configs.build(Adaptation, configs.nest(value["adaptation"]), path="adaptation")
    return Assembly(tuple(branch(part) for part in value["branches"]), fusion, tuple(value["unused"]), adaptation)


def choose(
    model: ModelConfig, schema: Schema, data: DataConfig = _AS_THEY_ARE, *, adaptation: Adaptation | None = None
) -> Assembly:
    """Return what `model.names`, or where it is empty the columns, ask for. Torch-free; named folders are looked at.

    Args:
        data: says which columns are read as text.
        adaptation: what is to train of pretrained parts.

    Raises:
        WrongInput: for an unknown name, a named family without a column to read, no column that any family reads,
            several branches without a fusion, or nothing pretrained to adapt.
    """
    schema = read_rows.as_read(schema, data)
    names = model.names or default_names(schema.problem_type)
    if len(set(names)) != len(names):
        raise WrongInput(
            f"model.names: {', '.join(names)}: a name stands twice; call one e.g. '{names[0]}_2'", trouble="wrong-value"
        )
    branches: list[Branch] = []
    fusions: list[Branch] = []
    for name in names:
        family, config = FAMILIES.load(family_of(name)), getattr(model, name)
        if fuses(family):
            fusions.append(Branch(name, family.name, config, ()))
            continue
        read = tuple(column.name for column in family.reads(schema, config))
        if read:
            branches.append(Branch(name, family.name, config, read))
        elif model.names:
            raise WrongInput(f"model.names: '{name}' has nothing to read; the columns are {_kinds(schema)}")
    check_dense([branch.family for branch in branches], schema.problem_type)
    fusion = _fusion(branches, fusions, schema, named=bool(model.names))
    for branch in branches:
        FAMILIES.load(branch.family).check(branch.config)
    if adaptation and not any(has_backbone(FAMILIES.load(branch.family)) for branch in branches):
        raise WrongInput(
            f"{peft.KEY}: '{adaptation.method}' is not possible; {', '.join(branch.name for branch in branches)} train "
            "from the start and have no backbone to keep. Leave it out",
            trouble="wrong-value",
        )
    used = {name for branch in branches for name in branch.columns}
    unused = tuple(column.name for column in schema.features() if column.name not in used)
    return Assembly(tuple(branches), fusion, unused, adaptation)


def _fusion(branches: Sequence[Branch], fusions: Sequence[Branch], schema: Schema, *, named: bool) -> Branch | None:
    if not branches:
        raise WrongInput(f"no column that a model family here reads; the columns are {_kinds(schema)}")
    if len(fusions) > 1:
        raise WrongInput(f"model.names: one fusion is enough, not {', '.join(fusion.name for fusion in fusions)}")
    if len(branches) == 1:
        if named and fusions:
            raise WrongInput(f"model.names: '{fusions[0].name}' has only '{branches[0].name}' to join; leave it out")
        return None
    if not fusions:
        joined = ", ".join(branch.name for branch in branches)
        raise WrongInput(f"model.names: {joined} are several branches and nothing joins them; add 'fusion_mlp'")
    return fusions[0]


def _kinds(schema: Schema) -> str:
    return ", ".join(f"{column.name} ({column.type})" for column in schema.features()) or "none"


def renewed(assembly: Assembly, model: ModelConfig) -> Assembly:
    """Return an assembly with this start's values of the keys that can't change a result, so that they take effect."""

    def part(branch: Branch) -> Branch:
        now = getattr(model, branch.name)
        free = {f.name: getattr(now, f.name) for f in dataclasses.fields(now) if not f.metadata.get("identity", True)}
        return replace(branch, config=replace(branch.config, **free))

    return replace(assembly, branches=tuple(part(branch) for branch in assembly.branches))


@dataclass(frozen=True)
class Preprocessing:
    """All branches' preprocessors as one call: rows -> arrays named "<branch>/<feature>".

    Attributes:
        columns: all that are read.
        texts: column -> how it becomes text, of those that do.
        dropout: probability that training leaves a value out.
    """

    branches: Mapping[str, Preprocessor]
    columns: tuple[str, ...]
    texts: Mapping[str, str] = field(default_factory=dict)
    dropout: float = 0.0

    @property
    def padded(self) -> tuple[str, ...]:
        """Return the columns by whose length it pays to group rows; see `family.Preprocessor`."""
        return tuple(dict.fromkeys(name for one in self.branches.values() for name in getattr(one, "padded", ())))

    def __call__(self, rows: pa.Table, *, training: bool, keys: np.ndarray) -> dict[str, np.ndarray]:
        """Return the batch's arrays, each with one entry a row; see `family.Preprocessor`."""
        rows = read_rows.as_texts(rows, self.texts)
        if training and self.dropout:
            columns.require(rows, self.columns)
            rows = read_rows.left_out(rows, self.columns, probability=self.dropout, keys=keys)
        return {
            f"{branch}/{feature}": array
            for branch, preprocess in self.branches.items()
            for feature, array in preprocess(rows, training=training, keys=keys).items()
        }

    def grown(self, classes: Sequence[object]) -> "Preprocessing":
        """Return the same for more classes of the label, where a branch reads it."""
        branches: dict[str, Any] = dict(self.branches)
        knowing = {name: one.grown(classes) for name, one in branches.items() if hasattr(one, "grown")}
        return replace(self, branches={**branches, **knowing})

    def files(self) -> dict[str, bytes]:
        """Return the files that go into the Model: preprocessors/<branch>/… and tokenizer/<branch>/…"""
        own = {TEXTS: canonical(dict(self.texts))} if self.texts else {}
        return own | {
            _place(branch, name): data
            for branch, preprocess in self.branches.items()
            for name, data in preprocess.files().items()
        }


def _place(branch: str, name: str) -> str:
    if name.startswith(TOKENIZER):
        return f"{TOKENIZER}{branch}/{name.removeprefix(TOKENIZER)}"
    return f"{PREPROCESSORS}{branch}/{name}"


def build_preprocessing(assembly: Assembly, schema: Schema, data: DataConfig) -> Preprocessing:
    """Fit every branch's preprocessor from the schema's statistics; the same arguments give the same files."""
    read, seen = _columns(assembly), read_rows.as_read(schema, data)
    texts = {name: how for name, how in read_rows.templates(schema, data).items() if name in read}
    fitted = {
        branch.name: FAMILIES.load(branch.family).preprocessor(branch.config, seen, data)
        for branch in assembly.branches
    }
    return Preprocessing(fitted, read, texts, data.modality_dropout)


def restore_preprocessing(assembly: Assembly, files: Mapping[str, bytes], *, dropout: float = 0.0) -> Preprocessing:
    """Return the preprocessing that wrote `files` (named as by `Preprocessing.files`); no folder or hub is read.

    Args:
        dropout: `data.modality_dropout`, where training goes on; no Model keeps it.
    """
    restored = {
        branch.name: FAMILIES.load(branch.family).restore(branch.config, _own_files(branch.name, files))
        for branch in assembly.branches
    }
    texts = json.loads(files[TEXTS]) if TEXTS in files else {}
    return Preprocessing(restored, _columns(assembly), texts, dropout)


def _columns(assembly: Assembly) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for branch in assembly.branches for name in branch.columns))


def _own_files(branch: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for folder, prefix in ((PREPROCESSORS, ""), (TOKENIZER, TOKENIZER)):
        start = f"{folder}{branch}/"
        found |= {prefix + name.removeprefix(start): data for name, data in files.items() if name.startswith(start)}
    return found


def build_network(
    assembly: Assembly, preprocessing: Preprocessing, num_outputs: int, *, pretrained: bool = True
) -> "Network":
    """Return the float32 network on the CPU; new layers take torch's global random numbers.

    Args:
        pretrained: False when weights will be loaded right after: then no checkpoint is read.
    """
    from carryover.models.layers import Network

    fusion = assembly.fusion
    weight = FAMILIES.load(fusion.family).auxiliary_weight(fusion.config) if fusion else 0.0
    own = num_outputs if fusion is None or weight else None
    branches = {
        branch.name: FAMILIES.load(branch.family).network(
            branch.config, preprocessing.branches[branch.name], num_outputs=own, pretrained=pretrained
        )
        for branch in assembly.branches
    }
    if assembly.adaptation:
        adapt(branches, assembly.adaptation)
    if fusion is None:
        return Network(branches, None, weight=0.0)
    widths = [module.out_features for module in branches.values()]
    joined = FAMILIES.load(fusion.family).network(fusion.config, widths, num_outputs=num_outputs)
    return Network(branches, (fusion.name, joined), weight=weight)


def adapt(branches: "Mapping[str, nn.Module]", adaptation: Adaptation) -> None:
    """Freeze what an adaptation freezes in each branch, and put its adapters in; raises WrongInput."""
    peft.check_extra(branches.values(), adaptation)
    for name, module in branches.items():
        peft.adapt(module, adaptation, name=name)
