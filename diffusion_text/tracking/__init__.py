"""Where a run's figures go, and what is made of them."""
