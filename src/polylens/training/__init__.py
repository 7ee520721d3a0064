"""Training: stages as tables, one loop for every task, exact resume."""
