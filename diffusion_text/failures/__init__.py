"""What went wrong in the lines of work behind this project, kept so that it can be looked at. Nothing else uses it."""
