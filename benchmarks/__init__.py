"""What the README and docs/ claim, measured: one command each."""
