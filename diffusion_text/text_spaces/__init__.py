"""Where text becomes something to diffuse, and text again."""
