"""What fine-tuning did to each head, in figures and in words."""
