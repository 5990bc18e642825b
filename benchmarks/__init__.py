"""What the README claims, measured: one command each."""
