"""The parts behind `cocabench.models.open_clip.decode`: options, cached towers, beam search, sampling, likelihoods."""
