"""The table of rules that tell what kind of work a call is; one row, one clue, one weight.

A predicate sees one view of a call and returns what it found (a text for the evidence, or True), or something falsy:

    argument  Argument        each argument, and the first elements of containers
    module    frozenset[str]  dotted names of the modules that the function and its objects come from, with all parents
    name      Names           words of the function's name, of its parameters, and the names that its code uses
    model     str             lower-case class names of the objects that the function holds or is given, one per line

No library is imported to judge its objects. Weights are summed per domain and per phase.
"""

from __future__ import annotations

import functools
import logging
import re
from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from fabric.errors import UnknownNameError
from fabric.types import DOMAINS, PHASES, Domain, Phase

View = Literal["argument", "module", "name", "model"]
Predicate = Callable[[Any], str | bool]

VIEWS: tuple[View, ...] = ("argument", "module", "name", "model")
PLUGIN_GROUP = "tierfabric.fingerprint"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rule:
    """One clue: when `predicate` finds something in the view `looks_at`, `weight` is added to `domain` and to `phase`."""

    name: str
    looks_at: View
    predicate: Predicate
    domain: Domain | None = None
    phase: Phase | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        for noun, value, known in (("view", self.looks_at, VIEWS), ("domain", self.domain, DOMAINS), ("phase", self.phase, PHASES)):
            if value is not None and value not in known:
                raise UnknownNameError.of(noun, str(value), known)


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument as rules see it. `shape` is () where it has none, and a dimension of 0 is unknown.

    `sample` holds at most eight values: of an array its first and last four, of a container its first elements (a dict: keys).
    """

    name: str
    kind: str
    value: Any = field(repr=False)
    shape: tuple[int, ...] = ()
    dtype: str = ""
    sample: tuple[Any, ...] = ()

    def __str__(self) -> str:
        what = f"{self.dtype}{list(self.shape)}" if self.shape and self.dtype else self.kind
        return f"{self.name or 'an argument'} is {what}"


class Names(NamedTuple):
    """Lower-case names: whole, and split into words for `function` and `parameters`; whole only for `used`."""

    function: frozenset[str]
    parameters: frozenset[str]
    used: frozenset[str]


def _sides(dims: tuple[int, ...], least: int) -> bool:
    return all(n == 0 or least <= n <= 16384 for n in dims)


def _is_float(argument: Argument) -> bool:
    return argument.dtype.startswith(("float", "bfloat", "half", "double"))


def _image_array(argument: Argument) -> bool:
    """[H,W,C], [C,H,W], and with one or two dimensions before them (batch, time). Three dimensions of floats, channels first, are
    judged stricter: [1, seq, hidden] is no image, nor is [4, seq, hidden] where hidden is more than three times seq."""
    shape, is_float = argument.shape, _is_float(argument)
    if not 3 <= len(shape) <= 5 or not (is_float or argument.dtype in ("uint8", "uint16")):
        return False
    least = 16 if len(shape) == 3 else 8
    if shape[-1] in (1, 3, 4) and _sides(shape[-3:-1], least):
        return True
    is_plausible = shape[-3] in (1, 3, 4) and _sides(shape[-2:], least)
    if is_float and len(shape) == 3:
        return is_plausible and shape[0] != 1 and max(shape[1:]) <= 3 * min(shape[1:])
    return is_plausible


def _grey_image(argument: Argument) -> bool:
    """uint8[H,W] or uint8[N,H,W]; float[H,W] only where it cannot be a table and its values are grey levels."""
    shape = argument.shape
    if argument.dtype == "uint8":
        return len(shape) in (2, 3) and _sides(shape[-2:], 16)
    looks_grey = _is_float(argument) and len(shape) == 2 and len(argument.sample) > 1 and _sides(shape, 32)
    return looks_grey and shape[0] != shape[1] and shape[1] > 512 and all(0 <= value <= 255 for value in argument.sample)


def _square_planes(argument: Argument) -> bool:
    """float[N, S, S]: small grey images that were scaled already."""
    shape = argument.shape
    return _is_float(argument) and len(shape) == 3 and shape[1] == shape[2] and _sides(shape[1:], 8) and shape[0] != shape[1]


def _float_table(argument: Argument) -> bool:
    """float[rows, 2..512 features]; a square matrix is linear algebra, as is a matrix of a single column."""
    shape = argument.shape
    return _is_float(argument) and len(shape) == 2 and 2 <= shape[1] <= 512 and shape[0] != shape[1]


def _hidden_states(argument: Argument) -> bool:
    shape = argument.shape
    return _is_float(argument) and len(shape) == 3 and shape[2] in (384, 512, 768, 1024, 1536, 2048, 4096) and shape[1] <= 8192


def _token_ids(argument: Argument) -> bool:
    """Ids of a vocabulary, [seq] (lists only) or [batch, seq]: non-negative, below 500,000, not small counts, not sorted."""
    shape, sample = argument.shape, argument.sample
    if not argument.dtype.startswith(("int", "uint16", "uint32")) or not shape or not sample:
        return False
    if len(shape) == 1 and argument.kind not in ("builtins.list", "builtins.tuple"):
        return False
    if len(shape) > 2 or not 6 <= shape[-1] <= 131072 or (len(shape) == 2 and shape[0] > 256 and shape[1] < 64):
        return False
    rising = all(a <= b for a, b in pairwise(sample))
    return min(sample) >= 0 and 64 <= max(sample) < 500_000 and not rising


_SQL = r"(?is)\s*(select\b.*\bfrom|insert\s+into|create\s+table|delete\s+from|update\b.*\bset)\b"


def _prose(text: str) -> bool:
    head = text[:256]
    words = head.split()[:16]
    if sum(char > "⺀" for char in head[:32]) >= 8:
        return True
    if len(words) < 4 or head[0] in "/{[<" or "\\" in head or "://" in words[0] or re.match(_SQL, head):
        return False
    return sum(word.strip(".,;:!?()\"'’“”").replace("'", "").isalpha() for word in words) >= 0.7 * len(words)


def _is_prose(argument: Argument) -> str:
    """Says how long the text is, never what it says: evidence is stored and shown."""
    found = next((text for text in (argument.value, *argument.sample) if type(text) is str and _prose(text)), "")
    return f"{argument.name or 'an argument'} is prose of {len(found)} characters" if found else ""


def _image_bytes(argument: Argument) -> bool:
    magic = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\x00", b"MM\x00*")
    return type(argument.value) in (bytes, bytearray) and (
        argument.value.startswith(magic) or (argument.value[:4] == b"RIFF" and argument.value[8:12] == b"WEBP")
    )


def _file_of(suffixes: str) -> Predicate:
    wanted = tuple(suffixes.split())

    def ends_so(argument: Argument) -> str:
        if type(argument.value) is not str and not argument.kind.startswith("pathlib."):
            return ""
        text = str(argument.value)
        suffix = next((suffix for suffix in wanted if text[-8:].lower().endswith(suffix)), "")
        return f"{argument.name or 'an argument'} ends in {suffix}" if suffix and len(text) < 1024 and "\n" not in text else ""

    return ends_so


def _csv_text(argument: Argument) -> bool:
    lines = argument.value[:512].split("\n", 2) if type(argument.value) is str else ()
    return len(lines) > 1 and lines[0].count(",") >= 1 and lines[0].count(",") == lines[1].count(",") and " " not in lines[0].strip()


def _table_object(argument: Argument) -> bool:
    library = argument.kind.partition(".")[0] in ("pandas", "pyarrow", "polars", "cudf", "modin", "duckdb")
    return library or argument.dtype.startswith(("void", "record"))


def _plain_rows(argument: Argument) -> bool:
    """A list of dicts with the same several text keys and plain values, or a dict of equally long columns."""
    value, sample = argument.value, argument.sample
    if type(value) is dict:
        columns = [value[key] for key in sample if type(value[key]) in (list, tuple)]
        return len(columns) == len(sample) >= 2 and len(columns[0]) >= 2 and len({len(column) for column in columns}) == 1
    if not sample or any(type(row) is not dict or len(row) < 2 or row.keys() != sample[0].keys() for row in sample):
        return False
    return {"role", "content"} != set(sample[0]) and all(type(cell) in (int, float, str, bool, type(None)) for cell in sample[0].values())


def _keys(names: str) -> Predicate:
    wanted = frozenset(names.split())

    def has_key(argument: Argument) -> str:
        keys = argument.sample if issubclass(type(argument.value), (dict, UserDict)) else ()
        return next((f"key {key!r}" for key in keys if type(key) is str and key in wanted), "")

    return has_key


def _modules(names: str) -> Predicate:
    wanted = frozenset(names.split())
    return lambda modules: min(wanted & modules, default="")


def _names(part: Literal["function", "parameters", "used"], names: str) -> Predicate:
    wanted, index = frozenset(names.split()), Names._fields.index(part)
    return lambda view: min(wanted & view[index], default="")


def _classes(pattern: str) -> Predicate:
    def found(models: str) -> str:
        match = re.search(pattern, models, re.M)  # compiled (and kept by re) on its first use: importing stays cheap
        return match.group() if match else ""

    return found


_CV_CLASSES = (
    r"conv(?:transpose)?[23]d|maxpool[23]d|batchnorm[23]d|resnet|mobilenet|efficientnet|yolo|^vit(?:for|model|_|\d|$)|visiontransformer|vgg|unet\b|densenet"
    r"|convnext|^swin|^detr|inception|alexnet|imageprocessor|forimage"
)
_NLP_CLASSES = (
    r"bert|gpt|llama|^t5|mistral|mixtral|qwen|tokenizer|tfidf|countvectorizer|hashingvectorizer|word2vec|sentencetransformer"
    r"|seq2seq|causallm|transformerencoder|transformerdecoder"
)
_TABULAR_CLASSES = (
    r"randomforest|gradientboosting|^xgb|^lgbm|catboost|decisiontree|linearregression|logisticregression|^ridge|^lasso"
    r"|columntransformer|standardscaler|onehotencoder|isolationforest|^booster$"
)
_CV_MODULES = (
    "torchvision cv2 PIL skimage timm albumentations ultralytics imageio kornia detectron2 mmcv mmdet imgaug keras_cv face_recognition "
    "pytesseract decord tensorflow.image keras.applications scipy.ndimage sklearn.feature_extraction.image"
)
_NLP_MODULES = (
    "transformers tokenizers sentencepiece nltk spacy gensim tiktoken sentence_transformers sacremoses textblob stanza flair fasttext "
    "torchtext keras_nlp vllm llama_cpp sklearn.feature_extraction.text"
)
_SKLEARN_MODULES = (
    "sklearn.linear_model sklearn.ensemble sklearn.tree sklearn.svm sklearn.neighbors sklearn.naive_bayes sklearn.preprocessing "
    "sklearn.compose sklearn.cluster sklearn.impute sklearn.gaussian_process sklearn.decomposition "
    "sklearn.neural_network sklearn.mixture sklearn.discriminant_analysis skl2onnx ai.onnx.ml"
)
_TABULAR_OPERATIONS = r"^(treeensemble\w*|linearclassifier|linearregressor|svm\w+|scaler|arrayfeatureextractor|idembedding)$"
_TRAINING_OPERATIONS = r"^(\w*[a-z]grad(ient)?|softmaxcrossentropyloss|negativeloglikelihoodloss|adam|adagrad|momentum)$"

_TABULAR_MODULES = "pandas pyarrow polars xgboost lightgbm catboost statsmodels cudf csv"
_CV_WORDS = "image images img imgs pixel pixels frames photo photos picture pictures video jpeg png"
_NLP_WORDS = "text texts sentence sentences tokens prompt prompts documents corpus paragraph utterance tokenizer input_ids"
_NLP_VERBS = " tokenize tokenise translate summarize summarise sentiment llm chat ner"
_NLP_CALLS = "tokenizer tokenize word_tokenize input_ids attention_mask tfidfvectorizer countvectorizer max_new_tokens"
_TABULAR_WORDS = "df dataframe table rows columns records csv"
_TRAINING_WORDS = "train training trainer finetune pretrain fit fit_model partial_fit fit_transform fit_predict"
_INFERENCE_WORDS = "predict infer inference serve classify embed detect eval evaluate generate transcribe"
_INFERENCE_CALLS = "predict predict_proba decision_function no_grad inference_mode eval generate infer"

RULES: tuple[Rule, ...] = (
    Rule("PIL image", "argument", lambda argument: argument.kind.startswith("PIL."), domain="cv", weight=5),
    Rule("encoded image", "argument", _image_bytes, domain="cv", weight=5),
    Rule("model input for images", "argument", _keys("pixel_values image images"), domain="cv", weight=4),
    Rule("image array", "argument", _image_array, domain="cv", weight=4),
    Rule("grey image", "argument", _grey_image, domain="cv", weight=3),
    Rule("stack of square planes", "argument", _square_planes, domain="cv", weight=1.5),
    Rule("image file", "argument", _file_of(".jpg .jpeg .png .webp .tiff .bmp .mp4"), domain="cv", weight=2.5),
    Rule("model input for text", "argument", _keys("input_ids attention_mask prompt role"), domain="nlp", weight=4),
    Rule("prose", "argument", _is_prose, domain="nlp", weight=3),
    Rule("token ids", "argument", _token_ids, domain="nlp", weight=2.5),
    Rule("hidden states", "argument", _hidden_states, domain="nlp", weight=1),
    Rule("table object", "argument", _table_object, domain="tabular", weight=4),
    Rule("rows of plain values", "argument", _plain_rows, domain="tabular", weight=3),
    Rule("CSV text", "argument", _csv_text, domain="tabular", weight=3),
    Rule("table file", "argument", _file_of(".csv .parquet .feather .arrow .xlsx .tsv"), domain="tabular", weight=2.5),
    Rule("float table", "argument", _float_table, domain="tabular", weight=2),
    Rule("vision model", "model", _classes(_CV_CLASSES), domain="cv", weight=4),
    Rule("language model", "model", _classes(_NLP_CLASSES), domain="nlp", weight=4),
    Rule("model of tables", "model", _classes(_TABULAR_CLASSES), domain="tabular", weight=1.5),
    Rule("embedding of tokens", "model", _classes(r"^tokenembedding$"), domain="nlp", weight=3),
    Rule("attention", "model", _classes(r"attention$"), domain="nlp", weight=1),
    Rule("operations of a table's model", "model", _classes(_TABULAR_OPERATIONS), domain="tabular", weight=2),
    Rule("graph that trains", "model", _classes(_TRAINING_OPERATIONS), phase="training", weight=4),
    Rule("vision library", "module", _modules(_CV_MODULES), domain="cv", weight=3),
    Rule("language library", "module", _modules(_NLP_MODULES), domain="nlp", weight=3),
    Rule("table library", "module", _modules(_TABULAR_MODULES), domain="tabular", weight=2),
    Rule("classic learner", "module", _modules(_SKLEARN_MODULES), domain="tabular", weight=1),
    Rule("vision word in a parameter", "name", _names("parameters", _CV_WORDS), domain="cv", weight=2),
    Rule("language word in a parameter", "name", _names("parameters", _NLP_WORDS), domain="nlp", weight=2),
    Rule("table word in a parameter", "name", _names("parameters", _TABULAR_WORDS), domain="tabular", weight=1),
    Rule("vision word in its name", "name", _names("function", _CV_WORDS + " thumbnail ocr vision"), domain="cv", weight=2),
    Rule("language word in its name", "name", _names("function", _NLP_WORDS + _NLP_VERBS), domain="nlp", weight=2),
    Rule("table word in its name", "name", _names("function", "table tables csv dataframe tabular parquet"), domain="tabular", weight=1.5),
    Rule("vision call", "name", _names("used", "conv2d max_pool2d imread imdecode cvtcolor load_digits ndimage"), domain="cv", weight=2.5),
    Rule("language call", "name", _names("used", _NLP_CALLS), domain="nlp", weight=2.5),
    Rule(
        "table call", "name", _names("used", "read_csv read_parquet dataframe groupby linear_model dictreader"), domain="tabular", weight=2
    ),
    Rule("fits a model", "name", _names("used", "fit partial_fit fit_predict train_on_batch fit_generator"), phase="training", weight=4),
    Rule("computes gradients", "name", _names("used", "backward zero_grad gradienttape value_and_grad"), phase="training", weight=4),
    Rule("holds an optimizer", "name", _names("used", "optimizer optimiser optim adam adamw sgd"), phase="training", weight=3),
    Rule("holds a trainer", "name", _names("used", "trainer sfttrainer seq2seqtrainer"), phase="training", weight=3),
    Rule("fits a transformation", "name", _names("used", "fit_transform train"), phase="training", weight=2),
    Rule("works on a loss", "name", _names("used", "loss losses loss_fn criterion cross_entropy"), phase="training", weight=0.5),
    Rule("takes steps", "name", _names("used", "step"), phase="training", weight=0.5),
    Rule("named for training", "name", _names("function", _TRAINING_WORDS), phase="training", weight=3),
    Rule("takes epochs", "name", _names("parameters", "epochs optimizer learning_rate lr"), phase="training", weight=2),
    Rule("named for inference", "name", _names("function", _INFERENCE_WORDS), phase="inference", weight=2),
    Rule("applies a model", "name", _names("used", _INFERENCE_CALLS), phase="inference", weight=1.5),
)


@functools.cache
def plugin_rules() -> tuple[Rule, ...]:
    """Rules of installed packages: every entry point of the group is a callable that returns an iterable of Rule.

    Loaded on the first call. One that breaks, or yields anything else, is logged with its name and ignored.
    """
    from importlib.metadata import entry_points  # 20 ms of imports that only the first fingerprint needs

    found: list[Rule] = []
    for point in sorted(entry_points(group=PLUGIN_GROUP), key=lambda point: point.name):
        try:
            rules = tuple(point.load()())
            if not all(isinstance(rule, Rule) for rule in rules):
                raise TypeError("not every element is a profiler.rules.Rule")
        except Exception as error:
            _log.warning("fingerprint plug-in ignored name=%s value=%s error=%r", point.name, point.value, error)
        else:
            found += rules
    return tuple(found)
