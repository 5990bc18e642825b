"""Demonstrations: types, files, scripted experts, goals."""
