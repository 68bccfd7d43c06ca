"""One small class per kind of task: it moves data between a model and the metrics and owns no maths."""
