"""The world and what it rewards: no learning, no files."""
