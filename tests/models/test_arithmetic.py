"""Numbers that a model is computed in, and those that it has again afterwards."""

import torch

from stratalaw.models.arithmetic import computing_in_float32, only_emulates_bf16


def test_within_the_context_all_is_float32_and_afterwards_as_it_was():
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 8)).bfloat16()
    model[2].weight = model[0].weight  # one parameter under two names
    model.register_buffer("frequencies", torch.rand(4))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with computing_in_float32(model):
        floats = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
        assert {tensor.dtype for tensor in floats} == {torch.float32}
        model[2] = torch.nn.Linear(8, 3).half()  # replaced by what was packed
        assert model[0](torch.rand(2, 8)).dtype == torch.float32
    after = model.state_dict()
    assert after["2.weight"].dtype == torch.float16 and after["frequencies"].dtype == torch.float32
    assert all(torch.equal(after[name], before[name]) for name in before if not name.startswith("2."))


def test_only_a_cpu_emulates():
    assert not only_emulates_bf16("cuda")
