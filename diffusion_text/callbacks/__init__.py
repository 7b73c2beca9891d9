"""What happens beside a training: averaging, samples, progress."""
