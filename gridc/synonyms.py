"""What other libraries call things: one table for pages and for calls, so that either can say how gridc writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from gridc.errors import nearest


class Written(NamedTuple):
    """How an option of a training is written: its key, and a value to show."""

    key: str
    value: Any

    def in_page(self) -> str:
        """Write it as YAML, on one line."""
        return f"{self.key}: {_yaml(self.value)}"

    def in_call(self) -> str:
        """Write it as an argument of ``fit``."""
        return f"{self.key}={self.value!r}"


def _yaml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_yaml(one)}" for key, one in value.items()) + "}"  # pyright: ignore[reportUnknownVariableType]
    return str(value).lower() if isinstance(value, bool) else str(value)


def _alike(*rows: tuple[str, Any]) -> dict[str, Any]:
    """Spread rows of several words for one thing."""
    return {word: meant for words, meant in rows for word in words.split()}


RATE = Written("optimizer", {"adam": {"learning_rate": 0.001}})
TRAINING: Mapping[str, Written | str] = _alike(
    ("epochs max_epochs n_epochs num_epochs num_train_epochs nb_epoch", Written("budget", {"epochs": 10})),
    ("steps max_steps iterations max_iter n_iter num_steps", Written("budget", {"steps": 1000})),
    ("samples", Written("budget", {"samples": 100_000})),
    ("seconds max_time timeout", Written("budget", {"seconds": 60})),
    ("batch_size mini_batch minibatch bs", Written("batch", 32)),
    ("validation_split validation_fraction val_split test_size valid_size dev_split", Written("held_out", 0.2)),
    ("learning_rate lr eta step_size learning_rate_init alpha", RATE),
    ("early_stopping patience n_iter_no_change early_stop EarlyStopping", Written("stop", {"patience": 5})),
    ("min_delta tol", Written("stop", {"patience": 5, "min_delta": 0.001})),
    ("random_state random_seed rng", Written("seed", 0)),
    ("gradient_clipping clipnorm clip_norm grad_clip max_grad_norm gradient_clip_val clip_grad_norm global_clipnorm",
     Written("clip", 1.0)),
    ("weight_decay l2 kernel_regularizer", Written("optimizer", {"adamw": {"weight_decay": 0.01}})),
    ("momentum", Written("optimizer", {"sgd": {"momentum": 0.9}})),
    ("scheduler lr_scheduler lr_schedule learning_rate_schedule", Written("schedule", "cosine_decay_schedule")),
    ("normalize normalise scale standardise scaler", Written("standardize", True)),
    ("class_weight pos_weight", Written("class_weights", {"OUTPUT": "balanced"})),
    ("loss_weights", Written("weights", {"OUTPUT": 1.0})),
    ("optimiser solver", Written("optimizer", "adam")),
    ("output_dir log_dir save_dir checkpoint_dir",
     "the folder is 'save' in a page, 'folder' in a call and --folder of gridc train"),
    ("loss criterion loss_fn", "an output of the spec has the key 'loss'"),
    ("metrics scoring", "the loss and the accuracy, or R², of every output are measured anyway"),
    ("device gpu accelerator", "it is chosen where the grid is compiled: backend='jax', or --backend jax"),
    ("dropout", "a transform of the spec has the key 'dropout'"),
    ("tensorboard", "give callbacks=[gridc.training.board.Board(FOLDER)], or --tensorboard to gridc train"),
    ("verbose", "give progress='none', or --progress none"),
)  # fmt: skip
"""What a call or a ``training:`` block may be asked for, and how it is written."""
CALL_ALONE: Mapping[str, str] = _alike(("validation_data eval_set", "write held_out=(inputs, targets)"),
                                        ("sample_weight sample_weights", "write weights={OUTPUT: ARRAY}"))  # fmt: skip
PAGE_ALONE: Mapping[str, str] = _alike(("validation_data eval_set", "write 'data: {file: FILE, held_out: FILE}'"))
KEYS: Mapping[str, Mapping[str, str]] = {
    "transforms": _alike(
        ("units hidden_size num_units n_units hidden_dim hidden_units size width neurons d_model", "hidden"),
        ("type kind layer mechanism rnn", "cell"), ("dim dimension axis over", "along"), ("inputs input sees", "reads"),
        ("reverse go_backwards backward", "direction"), ("share shared weights", "shares"), ("initial_state state", "start"),
        ("use_bias", "bias"), ("kernel_initializer initializer initialiser", "init"), ("recurrent_dropout", "zoneout"),
        ("unit_forget_bias", "forget_bias")),
    "inputs": _alike(
        ("dim input_dim input_size size width channels shape in_features units", "features"),
        ("vocab vocab_size vocabulary_size num_embeddings classes tokens num_tokens", "vocabulary"),
        ("embedding embedding_dim embed_dim embedding_size", "embed"), ("into_transform enter to", "enters"),
        ("join joined concat", "joins"), ("where cells", "at")),
    "outputs": _alike(
        ("num_classes n_classes labels categories num_labels", "classes"),
        ("size units out_features output_size dim", "features"),
        ("read from inputs input", "reads"), ("where cells position", "at"), ("criterion loss_fn", "loss"),
        ("ignore_index ignore_value mask_value missing", "ignore")),
}  # fmt: skip
"""What the keys of a page's sections are called elsewhere."""
OPTIONS: Mapping[str, str] = _alike(
    ("lr eta alpha step_size rate learning_rate_init", "learning_rate"), ("beta1 beta_1", "b1"), ("beta2 beta_2", "b2"),
    ("epsilon", "eps"), ("l2 wd", "weight_decay"), ("rho", "decay"))  # fmt: skip
"""The same of the options of optimisers and schedules."""
VALUES: Mapping[str, str] = _alike(
    ("rnn elman simple_rnn SimpleRNN linear", "dense"),
    ("mse mean_squared_error l2", "squared_error"), ("mae mean_absolute_error l1", "absolute_error"),
    ("smooth_l1 huber_loss", "huber"), ("focal_loss", "focal"),
    ("bce binary_cross_entropy_loss binary_crossentropy", "binary_cross_entropy"),
    ("crossentropy categorical_crossentropy sparse_categorical_crossentropy nll ce CrossEntropyLoss", "cross_entropy"),
    ("end -1 final", "last"), ("start begin", "first"), ("xavier glorot_uniform xavier_uniform", "glorot"))  # fmt: skip
"""The same of words that stand for a choice."""


def in_call(word: str, known: Iterable[str]) -> str:
    """Say how an option that ``fit`` does not have is written, or what it may mean; nothing where nobody knows."""
    found = CALL_ALONE.get(word) or TRAINING.get(word)
    if found is None:
        return nearest(word, known)
    return f": write {found.in_call()}." if isinstance(found, Written) else f": {found}."


def in_page(path: tuple[str | int, ...], known: Iterable[str]) -> str:
    """Say the same of a key that a section of a page does not have."""
    known, (section, *_), word = list(known), path, str(path[-1])
    meant = KEYS.get(str(section), {}).get(word) if len(path) == 3 else OPTIONS.get(word)
    if meant in known:
        return f" — did you mean '{meant}'?"
    found = (PAGE_ALONE.get(word) or TRAINING.get(word)) if section == "training" else None
    if found is None or word in known:
        return nearest(word, known)
    under = "" if len(path) == 2 else " under 'training'"
    return f" — write '{found.in_page()}'{under}" if isinstance(found, Written) else f" — {found}"


def of_value(word: str, choices: Iterable[str]) -> str:
    """Say which choice is meant by a word that is none of them."""
    choices = list(choices)
    meant = VALUES.get(word, VALUES.get(word.lower()))
    return f" — did you mean '{meant}'?" if meant in choices else nearest(word, choices)
