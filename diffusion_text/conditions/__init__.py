"""What a text is asked to be."""
