"""What a causal language model makes of token sequences: token ids in, log-likelihoods (nats) and text out."""

from stratalaw.engine.batches import Batching, load_batching, make_batching, save_batching
from stratalaw.engine.greedy import Generations, generate
from stratalaw.engine.plain import LogLikelihoods
from stratalaw.engine.resumed import ResumedPasses, can_resume, decoder_layers
from stratalaw.engine.shared import log_likelihoods, share_prefixes

__all__ = [
    "Batching",
    "Generations",
    "LogLikelihoods",
    "ResumedPasses",
    "can_resume",
    "decoder_layers",
    "generate",
    "load_batching",
    "log_likelihoods",
    "make_batching",
    "save_batching",
    "share_prefixes",
]
