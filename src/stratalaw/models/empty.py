"""Models without weights, as transformers builds them, and what their weights are called in files.

Files keep other names than models do: experts one by one where the model has them in one tensor, heads and prefixes
called as they were in earlier versions. transformers converts when it loads and stores.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stratalaw.models.folder import CONFIG, ModelError, distinct_shapes, read_config
from stratalaw.models.shapes import is_plain, matrices_of
from stratalaw.text import one_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def empty_model(config_folder: Path) -> PreTrainedModel:
    """The causal language model of a configuration, on the meta device.

    Raises:
        ModelError: there is no configuration, or transformers makes no causal language model of it.
    """
    read_config(config_folder)
    for talkative in ("torchao", "torch.utils._pytree"):  # of extensions that nothing here needs
        logging.getLogger(talkative).setLevel(logging.ERROR)
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(config_folder, trust_remote_code=False)
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(
                config, dtype=torch.bfloat16, trust_remote_code=False
            )
    except ImportError:
        raise
    except Exception as error:  # whatever code of many authors makes of a configuration that fits no model
        raise ModelError(f"{config_folder / CONFIG}: {one_line(error)}") from None
    return model


def tensors_to_store(model: PreTrainedModel) -> dict[str, tuple[int, ...]]:
    """The shapes of an empty model's tensors as transformers would store them: by their names in files, a tied one
    once."""
    from transformers.core_model_loading import revert_weight_conversion

    tied = model.all_tied_weights_keys
    own = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    return {name: tuple(tensor.shape) for name, tensor in revert_weight_conversion(model, own).items()}


def check_weights(folder: Path) -> None:
    """Refuse a folder whose weights are not those of its configuration, from the headers of the files alone.

    Raises:
        ModelError: transformers would miss a weight, or find one of another shape, or leave a matrix unused.
    """
    shapes, config = distinct_shapes(folder), read_config(folder)
    if is_plain(shapes, config):
        return
    import torch
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import convert_and_load_state_dict_in_model
    from transformers.modeling_utils import LoadStateDictConfig

    model = empty_model(folder)
    stored = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    options = LoadStateDictConfig(
        device_map={"": "meta"}, dtype=torch.bfloat16, weight_mapping=get_model_conversion_mapping(model)
    )
    try:
        with without_progress_bars():
            found, _ = convert_and_load_state_dict_in_model(model, stored, options, None)
    except Exception as error:  # whatever the conversions make of shapes that do not fit each other
        raise ModelError(f"{folder}: its weights do not fit its configuration: {one_line(error)}") from None
    # One of a tied pair is enough.
    tied = {name: other for pair in model.all_tied_weights_keys.items() for name, other in (pair, pair[::-1])}
    missing = {name for name in found.missing_keys if tied.get(name, name) in found.missing_keys}
    other = {name for name, *_ in found.mismatched_keys}
    unused = {name for name in found.unexpected_keys & stored.keys() if any(matrices_of(name, (1, 1), config))}
    for names, what in ((missing, "no weights for"), (other, "another shape of"), (unused, "transformers ignores")):
        if names:
            raise ModelError(f"{folder}: {what} {min(names)} ({len(names)} such weights)")


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Within this context transformers draws none while it loads weights."""
    from transformers.utils import logging as reports

    drawn = reports.is_progress_bar_enabled()
    reports.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            reports.enable_progress_bar()
