"""The mathematics: no networks, no text, no Lightning."""
