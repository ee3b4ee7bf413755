"""Owns which modules the ranks of a run import before they begin: those of its own families, and no others."""

from carryover.data.schema import Schema
from carryover.launch.imports import Imports
from carryover.models import family as families
from carryover.models.assembly import family_of
from carryover.models.registry import FAMILIES, default_names
from carryover.train.recipe import Recipe

# torch's compiler is imported by the first step of any optimizer, whether anything is compiled or not.
_ALL = ("torch", "torch._dynamo", "carryover.train.run")


def imports_of(recipe: Recipe, schema: Schema) -> Imports:
    """Return what the ranks of a start import, whatever they then do."""
    model = recipe.model
    used = []
    for name in model.names or default_names(schema.problem_type):
        family = FAMILIES.load(family_of(name))
        if families.fuses(family) or family.reads(schema, getattr(model, name)):
            used.append(family)
    modules = dict.fromkeys(_ALL + tuple(module for family in used for module in families.imports_of(family)))
    spared = set.intersection(*(set(families.spared_by(family)) for family in used)) if used else set()
    if recipe.optimization.adaptation:
        modules["peft"] = None
        spared -= {"accelerate"}
    return Imports(tuple(modules), tuple(sorted(spared)))
