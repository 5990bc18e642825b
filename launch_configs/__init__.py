"""How a run is placed on machines."""
