"""Log-likelihoods of token sequences under a causal language model: token ids in, nats out."""

from stratalaw.scoring.plain import LogLikelihoods, score

__all__ = ["LogLikelihoods", "score"]
