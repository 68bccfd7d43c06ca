"""Plan, execute and measure: models and tasks in, Records out."""
