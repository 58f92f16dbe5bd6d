"""Device profiles and connections."""
