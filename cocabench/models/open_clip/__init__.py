"""open_clip checkpoints: found, built, encoded and decoded."""
