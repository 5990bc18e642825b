"""Behavioural cloning: the baseline that sees the demonstrators' actions."""
