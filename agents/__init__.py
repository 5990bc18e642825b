"""Who acts and who learns."""
