"""Fused steps in copies of a model."""

from types import MethodType

import torch

from stratalaw.engine.fusion import share_steps


def test_a_copy_takes_the_steps_with_its_own_weights():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.ReLU())
    linear = model[0]
    linear.forward = MethodType(lambda self, x: x + self.weight.sum(), linear)
    # As torch copies a model to several GPUs: the attributes of each module, with other weights.
    copy = model._replicate_for_data_parallel()
    copied = linear._replicate_for_data_parallel()
    copy._modules["0"], copied.weight = copied, torch.ones(2, 2)
    with torch.no_grad():
        linear.weight.zero_()
        assert copy(torch.zeros(1)) == 0, "the weights of the original"
        share_steps(model, copy)
        assert copy(torch.zeros(1)) == 4
        assert model(torch.zeros(1)) == 0
