"""The generated sample world: CCTV-like scenes with known events."""
