"""Owns the Python of notebooks: verbs that call the steps, and results that show themselves.

    prepare ----> Dataset      head, to_arrow
    train ------> Model        predict, predict_proba, evaluate, dump_backbone, extend, run, dataset
    evaluate ---> Evaluation   predictions
    dump_backbone > Backbone   folder
    transfer ---> Model
    open -------> any of them, and Run: resume, curve, model

Nothing heavy is imported before a verb is called; torch never is by a verb that trains, whose ranks are processes of
their own.
"""

from carryover.api.backbone import Backbone
from carryover.api.dataset import Dataset
from carryover.api.evaluation import Evaluation
from carryover.api.model import Model
from carryover.api.run import Run
from carryover.api.training import train, transfer
from carryover.api.verbs import dump_backbone, evaluate, open, prepare

__all__ = [
    "Backbone",
    "Dataset",
    "Evaluation",
    "Model",
    "Run",
    "dump_backbone",
    "evaluate",
    "open",
    "prepare",
    "train",
    "transfer",
]
