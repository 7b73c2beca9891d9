"""Networks: (x_t, t, mask) -> prediction."""
