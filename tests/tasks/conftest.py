import pytest


@pytest.fixture
def session(sampled, checkpoint):
    """A function from overrides of sample.py to an untrained model's session."""
    return lambda *overrides: sampled(checkpoint(), *overrides)[1]
