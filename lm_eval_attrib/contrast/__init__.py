"""Finding the pair of tokens to explain: one strategy a file, one small protocol (method.md, 5)."""

from .annotations import export_annotations, read_annotations
from .choice import as_sequence
from .strategies import STRATEGIES, find_pair
from .workbench import Annotation, Ballot, Budget, JudgePanel, ScoreResponse, Workbench

__all__ = [
    "STRATEGIES",
    "Annotation",
    "Ballot",
    "Budget",
    "JudgePanel",
    "ScoreResponse",
    "Workbench",
    "as_sequence",
    "export_annotations",
    "find_pair",
    "read_annotations",
]
