"""Plan and run evaluations: from models and tasks to Records."""
