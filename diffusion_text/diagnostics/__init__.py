"""What a run is held against, and what tells a wrong idea early."""
