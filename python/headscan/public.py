"""Every public name of headscan and the module that it lives in; `headscan` takes them from here at first use."""

from __future__ import annotations

from headscan.common.files import package_version
from headscan.comparison.compare import compare
from headscan.comparison.result import Comparison
from headscan.core.comp import SparseCodes, comp
from headscan.core.pack import PackedAtoms, pack
from headscan.core.randomized_svd import RandomizedSVD, randomized_svd
from headscan.core.svd import svd_factored
from headscan.dictionaries.load import Dictionary, encode_dictionary, load_dictionary
from headscan.dictionaries.merge import merge_dictionaries
from headscan.dictionaries.published import load_published_dictionary
from headscan.edit import Cut, Direction, Edit, EditedModel, load_cut, load_edit
from headscan.errors import HeadscanError
from headscan.explanations.coherence import code_coherence, concept_coherence, encode_sentences
from headscan.explanations.directions import Explanations, explain_directions
from headscan.explanations.explain import EmbeddingExplanation, explain, written_in_words
from headscan.explanations.null import NullFidelity, null_fidelity
from headscan.explanations.published import load_published_scan
from headscan.explanations.scan import Scan, load_scan, scan
from headscan.explanations.significance import local_fdr, p_values, q_values
from headscan.heads.contributions import Contributions, contributions
from headscan.heads.factors import QKFactors, VOFactors, qk_factors, vo_factors
from headscan.models.adapters import Adapter, load_adapter
from headscan.models.joint import JointMap, joint_map
from headscan.models.load import load_model
from headscan.models.model import Model
from headscan.models.pictures import preprocess
from headscan.report.ground import Grounding, ground
from headscan.wiring.circuits import channel_directions, circuits
from headscan.wiring.paths import circuit_paths
from headscan.wiring.result import Circuits, load_circuits

__version__ = package_version()

__all__ = [
    "Adapter",
    "Circuits",
    "Comparison",
    "Contributions",
    "Cut",
    "Dictionary",
    "Direction",
    "Edit",
    "EditedModel",
    "EmbeddingExplanation",
    "Explanations",
    "Grounding",
    "HeadscanError",
    "JointMap",
    "Model",
    "NullFidelity",
    "PackedAtoms",
    "QKFactors",
    "RandomizedSVD",
    "Scan",
    "SparseCodes",
    "VOFactors",
    "__version__",
    "channel_directions",
    "circuit_paths",
    "circuits",
    "code_coherence",
    "comp",
    "compare",
    "concept_coherence",
    "contributions",
    "encode_dictionary",
    "encode_sentences",
    "explain",
    "explain_directions",
    "ground",
    "joint_map",
    "load_adapter",
    "load_circuits",
    "load_cut",
    "load_dictionary",
    "load_edit",
    "load_model",
    "load_published_dictionary",
    "load_published_scan",
    "load_scan",
    "local_fdr",
    "merge_dictionaries",
    "null_fidelity",
    "p_values",
    "pack",
    "preprocess",
    "q_values",
    "qk_factors",
    "randomized_svd",
    "scan",
    "svd_factored",
    "vo_factors",
    "written_in_words",
]
