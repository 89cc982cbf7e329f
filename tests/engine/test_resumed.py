import pytest
from transformers import AutoModelForCausalLM

from stratalaw.engine import can_resume, decoder_layers


@pytest.fixture
def model(small_model_folder):
    return AutoModelForCausalLM.from_pretrained(small_model_folder, dtype="float32").eval()


def test_a_model_whose_layers_hand_on_more_than_hidden_states_is_not_resumed(model):
    assert can_resume(model)
    first, second = decoder_layers(model)[:2]
    whole, after, passed = first.forward, second.forward, []

    def leaves_something(hidden_states, **options):
        passed.append(True)
        return whole(hidden_states, **options)

    def takes_it(hidden_states, **options):
        return after(hidden_states * (1 + len(passed)), **options)

    first.forward, second.forward = leaves_something, takes_it
    assert not can_resume(model)
