"""What a causal language model makes of token sequences: token ids in, log-likelihoods (nats) and text out."""

from stratalaw.scoring.greedy import generate
from stratalaw.scoring.plain import LogLikelihoods
from stratalaw.scoring.plan import Plan, load_plan, make_plan, save_plan
from stratalaw.scoring.shared import score

__all__ = ["LogLikelihoods", "Plan", "generate", "load_plan", "make_plan", "save_plan", "score"]
