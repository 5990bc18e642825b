"""D4PG (Barth-Maron et al. 2018)."""
