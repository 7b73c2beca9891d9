"""What can be done with a trained model: generate, and look closely at what it does."""
