"""The stages of the engine, and `run_stage`, which alone does their input and output."""
