"""The parts behind `cocabench.models.decode`: options, cached towers, beam search, sampling, likelihoods."""
