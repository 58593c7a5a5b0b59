"""From momenta back to geometries."""
